package auth

import (
	"strings"

	"github.com/trustelem/zxcvbn/frequency"
)

// commonPasswords are those that are tried first: of the 30,000 that leaks show the
// most often, all that may become a password here, in lower case.
func commonPasswords() map[string]struct{} {
	common := map[string]struct{}{}
	for _, password := range frequency.FrequencyLists["passwords"] {
		if checkPassword(password) == nil {
			common[strings.ToLower(password)] = struct{}{}
		}
	}
	return common
}
