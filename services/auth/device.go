package auth

import "strings"

// maxDevice bounds a device's label, in bytes.
const maxDevice = 64

// browsers and systems are what a label names, by the words that give them away
// in a User-Agent. The first that is found wins: browsers also claim to be those
// they descend from.
var (
	browsers = [][2]string{
		{"Edg", "Edge"}, {"OPR/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
		{"Chrome/", "Chrome"}, {"CriOS/", "Chrome"}, {"Safari/", "Safari"},
	}
	systems = [][2]string{
		{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"},
		{"Macintosh", "macOS"}, {"CrOS", "ChromeOS"}, {"Linux", "Linux"},
	}
)

// deviceLabel makes of a User-Agent what its owner knows a session by: "Firefox
// on Linux". What is no browser keeps its first word ("curl/8.5.0"). A label is
// the client's word: it proves nothing.
func deviceLabel(userAgent string) string {
	browser, system := firstOf(browsers, userAgent), firstOf(systems, userAgent)
	switch {
	case strings.HasPrefix(userAgent, "Mozilla/") && browser != "" && system != "":
		return browser + " on " + system
	case strings.HasPrefix(userAgent, "Mozilla/") && browser != "":
		return browser
	}
	word, _, _ := strings.Cut(strings.TrimLeft(userAgent, " "), " ")
	word = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, word)
	return word[:min(len(word), maxDevice)]
}

func firstOf(names [][2]string, userAgent string) string {
	for _, name := range names {
		if strings.Contains(userAgent, name[0]) {
			return name[1]
		}
	}
	return ""
}
