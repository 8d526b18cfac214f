package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// socket is set for this test's binary where it stands in for kubectl and sh: it
// hands what it was told to the fake cluster and prints the answer.
const socket = "COATCHECK_TEST_FAKE_CLUSTER"

func TestMain(m *testing.M) {
	if path := os.Getenv(socket); path != "" && !strings.HasPrefix(os.Args[len(os.Args)-1], "-test.") {
		os.Exit(call(path))
	}
	os.Exit(m.Run())
}

type command struct {
	Args  []string
	Input string
}

func call(path string) int {
	if os.Args[1] == "proxy" {
		return serveProxy(path, os.Args[3])
	}
	return send(path, command{Args: os.Args[1:]}, os.Stdout, os.Stderr)
}

func send(path string, c command, stdout, stderr io.Writer) int {
	conn, err := net.Dial("unix", path)
	if err != nil {
		_, _ = fmt.Fprintln(stderr, err)
		return 3
	}
	defer func() { _ = conn.Close() }()
	if err := json.NewEncoder(conn).Encode(c); err != nil {
		return 3
	}
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil {
		return 3
	}
	if first[0] == 'E' {
		_, _ = io.Copy(stderr, conn)
		return 1
	}
	_, _ = io.Copy(stdout, conn)
	return 0
}

// serveProxy is kubectl proxy at a socket, as far as package cluster knows it.
func serveProxy(path, at string) int {
	listener, err := net.Listen("unix", at)
	if err != nil {
		return 3
	}
	_ = http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var said strings.Builder
		if r.Host != "localhost" {
			w.WriteHeader(http.StatusForbidden)
		} else if send(path, command{Args: []string{r.Method, r.URL.Path}, Input: string(body)}, io.Discard, &said) != 0 {
			w.WriteHeader(http.StatusTooManyRequests)
			_ = json.NewEncoder(w).Encode(map[string]string{"message": said.String()})
		}
	}))
	return 3
}

// fakeCluster is a namespace with a shop, whose pods come back after a while.
type fakeCluster struct {
	t       *testing.T
	back    time.Duration // how long a pod takes to be replaced
	program string

	mu       sync.Mutex
	pods     []Pod
	serial   int
	watchers map[chan event]bool
	commands []string
	refusals int // evictions that the budget still refuses
	fewest   map[string]int
	replicas map[string]int
	nodeAway string
	stubborn bool // pods that are taken do not come back
	// scalesBack says that an autoscaler at once undoes what a part is scaled to.
	scalesBack bool
}

func newFake(t *testing.T) *fakeCluster {
	f := &fakeCluster{t: t, back: 60 * time.Millisecond, watchers: map[chan event]bool{}, fewest: map[string]int{}, replicas: map[string]int{}}
	for _, part := range Services {
		f.replicas[part] = 3
		for range 3 {
			f.add(part)
		}
		f.fewest[part] = 3
	}
	f.add(Redis)
	path := filepath.Join(t.TempDir(), "cluster")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go f.serve(conn)
		}
	}()
	t.Setenv(socket, path)
	if f.program, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fakeCluster) options() Options {
	return Options{
		Namespace: "shop", Kubectl: f.program,
		NodeExec: f.program + " node-exec NODE", NodeStop: f.program + " node-stop NODE", NodeStart: f.program + " node-start NODE",
	}
}

// add makes a Ready pod. f.mu is held, or nobody else is there yet.
func (f *fakeCluster) add(part string) {
	f.serial++
	p := Pod{Name: fmt.Sprintf("%s-%d", part, f.serial), UID: fmt.Sprint(f.serial), Part: part, Node: fmt.Sprintf("worker-%d", 1+f.serial%2), Ready: true, Container: fmt.Sprint("c", f.serial)}
	f.pods = append(f.pods, p)
	f.tell("ADDED", p)
}

func (f *fakeCluster) tell(kind string, p Pod) {
	for w := range f.watchers {
		w <- eventOf(kind, p)
	}
}

func eventOf(kind string, p Pod) (e event) {
	e.Type = kind
	e.Object.Metadata.Name, e.Object.Metadata.UID = p.Name, p.UID
	e.Object.Metadata.Labels = map[string]string{"app.kubernetes.io/component": p.Part}
	if p.Terminating {
		now := time.Now()
		e.Object.Metadata.DeletionTimestamp = &now
	}
	e.Object.Spec.NodeName = p.Node
	status := map[bool]string{true: "True", false: "False"}[p.Ready]
	e.Object.Status.Conditions = []struct{ Type, Status string }{{"Initialized", "True"}, {"Ready", status}}
	e.Object.Status.Containers = []struct {
		ContainerID  string
		RestartCount int
	}{{"containerd://" + p.Container, p.Restarts}}
	return e
}

func (f *fakeCluster) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	var c command
	if err := json.NewDecoder(conn).Decode(&c); err != nil {
		return
	}
	if slices.Contains(c.Args, "--watch") {
		f.watch(conn)
		return
	}
	out, err := f.do(c)
	if err != nil {
		_, _ = io.WriteString(conn, "E"+err.Error())
		return
	}
	_, _ = io.WriteString(conn, "O"+out)
}

func (f *fakeCluster) watch(conn net.Conn) {
	_, _ = io.WriteString(conn, "O")
	events := make(chan event, 1000)
	f.mu.Lock()
	for _, p := range f.pods {
		events <- eventOf("ADDED", p)
	}
	f.watchers[events] = true
	f.mu.Unlock()
	for e := range events {
		if json.NewEncoder(conn).Encode(e) != nil {
			f.mu.Lock()
			delete(f.watchers, events)
			f.mu.Unlock()
			return
		}
	}
}

// do is the rest of kubectl, as far as package cluster knows it.
func (f *fakeCluster) do(c command) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	line := strings.Join(c.Args, " ")
	f.commands = append(f.commands, strings.TrimSpace(line+" "+c.Input))
	pod, ofPod := strings.CutPrefix(c.Args[len(c.Args)-1], "/api/v1/namespaces/shop/pods/")
	rest, ofShop := strings.CutPrefix(line, "--namespace shop ")
	words := strings.Fields(rest)
	switch {
	case strings.HasPrefix(line, "node-exec "): // node-exec worker-1 ctr … c7
		return "", f.kill(words[len(words)-1])
	case strings.HasPrefix(line, "node-stop "):
		f.nodeAway = words[1]
		return "", nil
	case strings.HasPrefix(line, "node-start "):
		if f.nodeAway != words[1] {
			return "", errors.New("another node is away")
		}
		f.nodeAway = ""
		return "", nil
	case ofPod && c.Args[0] == http.MethodDelete && (c.Input == "" || c.Input == `{"gracePeriodSeconds":0}`):
		return "", f.take(pod)
	case ofPod && c.Args[0] == http.MethodPost && strings.HasSuffix(pod, "/eviction"):
		if !strings.Contains(c.Input, `"kind":"Eviction"`) {
			return "", errors.New("not an eviction: " + c.Input)
		}
		if f.refusals > 0 {
			f.refusals--
			return "", errors.New("Cannot evict pod as it would violate the pod's disruption budget.")
		}
		return "", f.take(strings.TrimSuffix(pod, "/eviction"))
	case !ofShop:
		return "", fmt.Errorf("not in the shop's namespace: %s", line)
	case strings.HasPrefix(rest, "get deployment "):
		part := rest[strings.Index(rest, "component=")+len("component="):]
		return "deployment.apps/shop-" + strings.Fields(part)[0], nil
	case strings.HasPrefix(rest, "get deployment.apps/"):
		return fmt.Sprint(f.replicas[partOf(words[1])]), nil
	case strings.HasPrefix(rest, "scale "):
		n, err := strconv.Atoi(words[3])
		if err == nil && !f.scalesBack {
			f.scale(partOf(words[1]), n)
		}
		return "", err
	case strings.HasPrefix(rest, "get nodes "):
		return "worker-1 worker-2 idle", nil
	case strings.HasPrefix(rest, "rollout "), strings.HasPrefix(rest, "wait "):
		return "", nil
	}
	return "", fmt.Errorf("not known: %s", line)
}

// scale adds Ready pods to a part, or takes some away. f.mu is held.
func (f *fakeCluster) scale(part string, to int) {
	for ; f.replicas[part] < to; f.replicas[part]++ {
		f.add(part)
	}
	for ; f.replicas[part] > to; f.replicas[part]-- {
		i := slices.IndexFunc(f.pods, func(p Pod) bool { return p.Part == part && p.Ready })
		f.tell("DELETED", f.pods[i])
		f.pods = slices.Delete(f.pods, i, i+1)
	}
}

func partOf(deployment string) string { return strings.TrimPrefix(deployment, "deployment.apps/shop-") }

// take ends a pod, which is replaced after a while. f.mu is held.
func (f *fakeCluster) take(name string) error {
	i := slices.IndexFunc(f.pods, func(p Pod) bool { return p.Name == name })
	if i < 0 || f.pods[i].Terminating {
		return fmt.Errorf("there is no pod %s", name)
	}
	f.pods[i].Terminating, f.pods[i].Ready = true, false
	p := f.pods[i]
	f.fewest[p.Part] = min(f.fewest[p.Part], len(ready(f.pods, p.Part)))
	f.tell("MODIFIED", p)
	if f.stubborn {
		return nil
	}
	time.AfterFunc(f.back, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.pods = slices.DeleteFunc(f.pods, func(other Pod) bool { return other.UID == p.UID })
		f.tell("DELETED", p)
		f.add(p.Part)
	})
	return nil
}

// kill ends a container, which is started again. f.mu is held.
func (f *fakeCluster) kill(container string) error {
	i := slices.IndexFunc(f.pods, func(p Pod) bool { return p.Container == container })
	if i < 0 {
		return fmt.Errorf("there is no container %s", container)
	}
	f.pods[i].Ready = false
	f.tell("MODIFIED", f.pods[i])
	uid := f.pods[i].UID
	time.AfterFunc(f.back, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for i := range f.pods {
			if f.pods[i].UID == uid {
				f.pods[i].Ready, f.pods[i].Restarts = true, f.pods[i].Restarts+1
				f.tell("MODIFIED", f.pods[i])
			}
		}
	})
	return nil
}

// away is the node that is stopped, "" if none is.
func (f *fakeCluster) away() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodeAway
}
