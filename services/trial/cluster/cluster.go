// Package cluster breaks a shop on Kubernetes on purpose: its pods are deleted,
// evicted and killed, its Deployments rolled and scaled, its nodes stopped.
//
// Everything is done by kubectl (and, for nodes, by commands that the user
// names), so that whatever it does can be done by hand as well.
//
// The hazards are a fault that hits somebody else's pods (a namespace without a
// whole shop in it is refused), and one that takes the last Ready pod of a part,
// which nobody claims to survive unseen.
package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"coatcheck/trial/history"
)

// The parts of a shop, as the label app.kubernetes.io/component has them.
const (
	Gateway = "gateway"
	Auth    = "auth"
	Cart    = "cart"
	Redis   = "redis"
)

// Services are the parts that have replicas.
var Services = []string{Gateway, Auth, Cart}

// Options say where the shop is. Namespace is needed.
type Options struct {
	Namespace string
	// Kubectl is the program; "" means kubectl. It takes the cluster from its own
	// settings (KUBECONFIG).
	Kubectl string
	// NodeExec, NodeStop and NodeStart are lines for sh that run a command on a
	// node, stop it, and start it again and return when its pods can be reached;
	// NODE stands for its name, and NodeExec is followed by the command. "" means
	// that faults which need it can't be made.
	NodeExec, NodeStop, NodeStart string
}

// Pod is one pod of the shop, as it was last seen.
type Pod struct {
	Name, UID, Part, Node string
	Ready, Terminating    bool
	Restarts              int
	Container             string // id of the first container, without its scheme
}

// Cluster is a shop's namespace that is being watched. Its methods may be called
// from many goroutines; the caller closes it.
type Cluster struct {
	options Options
	proxy   *proxy
	stop    context.CancelFunc
	watches sync.WaitGroup

	mu      sync.Mutex
	pods    map[string]Pod // by UID
	changed chan struct{}  // closed at the next change
	marked  map[string]bool
	err     error // of the last watch that ended
}

// seen is how long the first look may take.
const seen = 30 * time.Second

// Open watches the namespace and returns once every part of a shop has a Ready
// pod there.
func Open(ctx context.Context, o Options) (*Cluster, error) {
	if o.Kubectl == "" {
		o.Kubectl = "kubectl"
	}
	if o.Namespace == "" {
		return nil, errors.New("the cluster: which namespace?")
	}
	proxy, err := openProxy(ctx, o.Kubectl)
	if err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	c := &Cluster{options: o, proxy: proxy, stop: stop, pods: map[string]Pod{}, changed: make(chan struct{}), marked: map[string]bool{}}
	c.watches.Go(func() { c.watch(watching) })
	ctx, cancel := context.WithTimeout(ctx, seen)
	defer cancel()
	if err := c.await(ctx, func(pods []Pod) bool {
		return !slices.ContainsFunc(Services, func(part string) bool { return len(ready(pods, part)) == 0 })
	}); err != nil {
		c.Close()
		return nil, fmt.Errorf("the namespace %s has no shop with a Ready gateway, auth and cart: %w", o.Namespace, err)
	}
	return c, nil
}

// Close ends the watch, and the way that pods are taken by.
func (c *Cluster) Close() {
	c.stop()
	c.watches.Wait()
	c.proxy.close()
}

// Sample is the pods as they are now. Those that are to go are not Ready.
func (c *Cluster) Sample(at time.Duration) *history.Pods {
	s := &history.Pods{At: at, All: map[string]int{}, Ready: map[string][]string{}}
	for _, p := range c.Pods() {
		s.All[p.Part]++
		if p.Ready && !p.Terminating {
			s.Ready[p.Part] = append(s.Ready[p.Part], p.Name)
		}
	}
	return s
}

// Pods are those that were last seen, by name.
func (c *Cluster) Pods() []Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return sorted(c.pods)
}

// ready are the pods of a part that serve and are to stay.
func ready(pods []Pod, part string) (fit []Pod) {
	for _, p := range pods {
		if p.Part == part && p.Ready && !p.Terminating {
			fit = append(fit, p)
		}
	}
	return fit
}

// await returns nil when done says so of the pods.
func (c *Cluster) await(ctx context.Context, done func([]Pod) bool) error {
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if done(c.Pods()) {
			return nil
		}
		select {
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			return errors.Join(ctx.Err(), c.err)
		case <-changed:
		}
	}
}

// event is what kubectl prints for each change of a pod.
type event struct {
	Type   string `json:"type"`
	Object struct {
		Metadata struct {
			Name, UID         string
			Labels            map[string]string
			DeletionTimestamp *time.Time
		} `json:"metadata"`
		Spec struct {
			NodeName string
		} `json:"spec"`
		Status struct {
			Conditions []struct{ Type, Status string }
			Containers []struct {
				ContainerID  string
				RestartCount int
			} `json:"containerStatuses"`
		} `json:"status"`
	} `json:"object"`
}

// selector is of the pods of a shop, those of helm test apart.
const selector = "app.kubernetes.io/part-of=coatcheck,app.kubernetes.io/component in (gateway,auth,cart,redis)"

// watch keeps the pods up to date until ctx ends. A watch that ends begins anew
// with all that there is.
func (c *Cluster) watch(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.follow(ctx)
		c.mu.Lock()
		c.err = err
		c.mu.Unlock()
		pause(ctx, time.Second)
	}
}

func (c *Cluster) follow(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.options.Kubectl, "get", "pods", "--namespace", c.options.Namespace, "--selector", selector,
		"--watch", "--output-watch-events", "--output", "json")
	cmd.WaitDelay = time.Second
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	known := map[string]Pod{}
	decoder := json.NewDecoder(out)
	for {
		var e event
		if err = decoder.Decode(&e); err != nil {
			break
		}
		m := e.Object.Metadata
		if e.Type == "DELETED" {
			delete(known, m.UID)
		} else {
			known[m.UID] = podOf(e)
		}
		c.mu.Lock()
		c.pods = maps.Clone(known)
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = errors.Join(err, cmd.Wait()); said.Len() > 0 {
		err = fmt.Errorf("kubectl get pods: %w: %s", err, strings.TrimSpace(said.String()))
	}
	return err
}

func podOf(e event) Pod {
	m := e.Object.Metadata
	p := Pod{
		Name: m.Name, UID: m.UID, Part: m.Labels["app.kubernetes.io/component"], Node: e.Object.Spec.NodeName,
		Terminating: m.DeletionTimestamp != nil,
	}
	for _, condition := range e.Object.Status.Conditions {
		if condition.Type == "Ready" {
			p.Ready = condition.Status == "True"
		}
	}
	if all := e.Object.Status.Containers; len(all) > 0 {
		_, p.Container, _ = strings.Cut(all[0].ContainerID, "://")
		p.Restarts = all[0].RestartCount
	}
	return p
}

// kubectl runs one command in the shop's namespace.
func (c *Cluster) kubectl(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.options.Kubectl, append([]string{"--namespace", c.options.Namespace}, args...)...)
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// sh runs a line of the user's for a node.
func sh(ctx context.Context, line, node string) error {
	out, err := exec.CommandContext(ctx, "sh", "-c", strings.ReplaceAll(line, "NODE", node)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// pause returns false if ctx ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
