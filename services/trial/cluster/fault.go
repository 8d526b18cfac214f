package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"coatcheck/trial/fault"
	"coatcheck/trial/history"
)

// The kinds of fault, beside those of package fault that are the same here:
// fault.Kill (in the container), fault.Roll, fault.ScaleUp, fault.ScaleDown.
const (
	Delete      = "delete"       // with the pod's grace period
	ForceDelete = "force-delete" // grace period 0
	Evict       = "evict"        // by the eviction API, which asks the disruption budget
	RedisDelete = "redis-delete" // its volume stays
	NodeStop    = "node-stop"    // until it is back with all its pods
	NodeReturn  = "node-return"  // what it leaves behind: see its Over
)

// Whole is the target of a fault that meets all Services at once.
const Whole = "all"

const (
	// podBound is how long a pod may take to be replaced, and partBound a whole
	// part, or a node that comes back.
	podBound  = 90 * time.Second
	partBound = 5 * time.Minute
	// settled is how long what a part was scaled to may take to be seen here.
	settled = 10 * time.Second
	// nodeAway is how long a node stays away.
	nodeAway = 60 * time.Second
	// halfOpen is how long another node's kernel remembers a connection that it sent
	// to a pod of the stopped one and that was not answered
	// (nf_conntrack_tcp_timeout_syn_sent). Until then a new connection from the same
	// address and port is sent after it, and no server gets to see it. Clients of many
	// addresses hardly notice; a trial's, that all have one, meet it for a minute.
	halfOpen = 2 * time.Minute
	// backlog is how much longer than check.Limits.Settle requests of an outage may
	// be under way: 5 s each, with all their attempts. On a cluster that shares its
	// cores with its clients these wait for one another until then.
	backlog = 3 * time.Second
)

func classOf(part string) history.Class {
	switch part {
	case Gateway, Whole:
		return history.Gateway
	case Redis:
		return history.Outage
	}
	return history.Hidden
}

// Happening is a fault under way.
type Happening struct {
	fault.Fault
	// Began is just before its command.
	Began time.Time
	// Over waits until the shop is whole again.
	Over func(context.Context) error
}

// errNobody says that no pod can be taken now.
var errNobody = errors.New("no part has two Ready pods")

// begin makes the fault happen to a part.
func (c *Cluster) begin(ctx context.Context, p *plan, kind, part string) (Happening, error) {
	h := Happening{Fault: fault.Fault{Name: kind + " " + part, Kind: kind, Target: part, Class: classOf(part)}}
	var err error
	switch kind {
	case Delete, ForceDelete, Evict, fault.Kill, RedisDelete:
		err = c.takePod(ctx, p, &h)
	case fault.Roll:
		err = c.roll(ctx, &h)
	case fault.ScaleUp, fault.ScaleDown:
		err = c.scale(ctx, &h)
	case NodeStop:
		err = c.stopNode(ctx, p, &h)
	case NodeReturn:
		h.Name, h.Class, h.Began = "return of a node", history.Outage, time.Now()
		h.Over = func(ctx context.Context) error { pause(ctx, halfOpen); return nil }
	default:
		err = errors.New("there is no such fault on a cluster")
	}
	if err != nil {
		return h, fmt.Errorf("%s: %w", h.Name, err)
	}
	return h, nil
}

// takePod draws a pod of the part and takes it. A part of which one pod alone is
// Ready is left in peace.
func (c *Cluster) takePod(ctx context.Context, p *plan, h *Happening) error {
	c.mu.Lock()
	var fit []Pod
	for _, pod := range ready(sorted(c.pods), h.Target) {
		if !c.marked[pod.UID] {
			fit = append(fit, pod)
		}
	}
	least := 2
	if h.Target == Redis {
		least = 1
	}
	if len(fit) < least {
		c.mu.Unlock()
		return errNobody
	}
	pod := fit[p.rng.IntN(len(fit))]
	c.marked[pod.UID] = true // until it is seen to go
	before := map[string]bool{}
	for uid := range c.pods {
		before[uid] = true
	}
	c.mu.Unlock()

	h.Name, h.Target, h.Began = h.Kind+" "+pod.Name, pod.Name, time.Now()
	if h.Kind == fault.Kill {
		h.Over = func(ctx context.Context) error {
			defer c.unmark(pod.UID)
			return c.replaced(ctx, func(now Pod) bool { return now.UID == pod.UID && now.Restarts > pod.Restarts || !before[now.UID] }, pod.Part)
		}
		if c.options.NodeExec == "" {
			c.unmark(pod.UID)
			return errors.New("it needs -node-exec")
		}
		return sh(ctx, c.options.NodeExec+" ctr --namespace k8s.io tasks kill --signal SIGKILL "+pod.Container, pod.Node)
	}
	h.Over = func(ctx context.Context) error {
		if err := c.replaced(ctx, func(now Pod) bool { return !before[now.UID] }, pod.Part); err != nil {
			return err
		}
		if err := c.gone(ctx, func(now Pod) bool { return now.UID == pod.UID }); err != nil {
			return err
		}
		if h.Class == history.Outage {
			pause(ctx, backlog)
		}
		return nil
	}
	var err error
	switch h.Kind {
	case ForceDelete:
		err = c.ask(ctx, http.MethodDelete, pod.Name, `{"gracePeriodSeconds":0}`)
	case Evict:
		err = c.evict(ctx, pod)
	default:
		err = c.ask(ctx, http.MethodDelete, pod.Name, "")
	}
	return err
}

// evict asks until the disruption budget allows it.
func (c *Cluster) evict(ctx context.Context, pod Pod) error {
	ctx, cancel := context.WithTimeout(ctx, podBound)
	defer cancel()
	body := fmt.Sprintf(`{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":%q,"namespace":%q}}`, pod.Name, c.options.Namespace)
	for {
		err := c.ask(ctx, http.MethodPost, pod.Name+"/eviction", body)
		if err == nil || !strings.Contains(err.Error(), "disruption budget") || !pause(ctx, time.Second) {
			return err
		}
	}
}

func (c *Cluster) unmark(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.marked, uid)
}

// replaced waits for a Ready pod of the part that is the one.
func (c *Cluster) replaced(ctx context.Context, is func(Pod) bool, part string) error {
	ctx, cancel := context.WithTimeout(ctx, podBound)
	defer cancel()
	err := c.await(ctx, func(pods []Pod) bool { return slices.ContainsFunc(ready(pods, part), is) })
	if err != nil {
		return fmt.Errorf("no other pod of %s is Ready: %w", part, err)
	}
	return nil
}

// gone waits until there is no such pod any more: one that ends goes on serving
// for a while after another one has taken its place.
func (c *Cluster) gone(ctx context.Context, is func(Pod) bool) error {
	ctx, cancel := context.WithTimeout(ctx, podBound)
	defer cancel()
	if err := c.await(ctx, func(pods []Pod) bool { return !slices.ContainsFunc(pods, is) }); err != nil {
		return fmt.Errorf("a pod does not end: %w", err)
	}
	return nil
}

// deployment is the name of a part's Deployment, as kubectl wants it.
func (c *Cluster) deployment(ctx context.Context, part string) (string, error) {
	out, err := c.kubectl(ctx, "get", "deployment", "--selector", "app.kubernetes.io/part-of=coatcheck,app.kubernetes.io/component="+part, "--output", "name")
	if err == nil && (out == "" || strings.Contains(out, "\n")) {
		err = fmt.Errorf("%s has no Deployment, or several", part)
	}
	return out, err
}

// rolledOut waits until the part is as it is to be, and nothing of it ends any more.
func (c *Cluster) rolledOut(ctx context.Context, part, deployment string) error {
	if _, err := c.kubectl(ctx, "rollout", "status", deployment, "--timeout", partBound.String()); err != nil {
		return err
	}
	return c.gone(ctx, func(now Pod) bool { return now.Part == part && now.Terminating })
}

// roll restarts a part, or all at once, as an upgrade does.
func (c *Cluster) roll(ctx context.Context, h *Happening) error {
	parts := []string{h.Target}
	if h.Target == Whole {
		parts = Services
	}
	deployments := make([]string, len(parts))
	for i, part := range parts {
		var err error
		if deployments[i], err = c.deployment(ctx, part); err != nil {
			return err
		}
	}
	h.Name, h.Began = "rolling restart of "+strings.Join(parts, ", "), time.Now()
	_, err := c.kubectl(ctx, append([]string{"rollout", "restart"}, deployments...)...)
	h.Over = func(ctx context.Context) error {
		for i, part := range parts {
			if err := c.rolledOut(ctx, part, deployments[i]); err != nil {
				return err
			}
		}
		return nil
	}
	return err
}

// scale adds a pod to a part, which must come to be Ready, or takes one away. An
// autoscaler of the part goes on from there, unless it is held.
func (c *Cluster) scale(ctx context.Context, h *Happening) error {
	part, by := h.Target, 1
	if h.Kind == fault.ScaleDown {
		by = -1
	}
	deployment, err := c.deployment(ctx, part)
	if err != nil {
		return err
	}
	out, err := c.kubectl(ctx, "get", deployment, "--output", "jsonpath={.spec.replicas}")
	if err != nil {
		return err
	}
	now, err := strconv.Atoi(out)
	if err != nil {
		return err
	}
	if now+by < 1 {
		return errNobody
	}
	h.Name = fmt.Sprintf("scale %s from %d to %d", part, now, now+by)
	h.Began = time.Now()
	_, err = c.kubectl(ctx, "scale", deployment, "--replicas", strconv.Itoa(now+by))
	h.Over = func(ctx context.Context) error {
		if err := c.rolledOut(ctx, part, deployment); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, settled)
		defer cancel()
		if err := c.await(ctx, func(pods []Pod) bool { return len(ready(pods, part)) >= now+by }); err != nil {
			return fmt.Errorf("something has scaled %s back from %d: %w", part, now+by, err)
		}
		return nil
	}
	return err
}

// stopNode stops, for nodeAway, the worker that runs Redis if the target is Redis,
// else one that is drawn from those that run other pods of the shop.
func (c *Cluster) stopNode(ctx context.Context, p *plan, h *Happening) error {
	if c.options.NodeStop == "" || c.options.NodeStart == "" {
		return errors.New("it needs -node-stop and -node-start")
	}
	out, err := c.kubectl(ctx, "get", "nodes", "--selector", "!node-role.kubernetes.io/control-plane", "--output", "jsonpath={.items[*].metadata.name}")
	if err != nil {
		return err
	}
	pods, withRedis, which := c.Pods(), h.Target == Redis, "without"
	if withRedis {
		which = "with"
	}
	nodes := slices.DeleteFunc(strings.Fields(out), func(node string) bool {
		runs := func(fits func(Pod) bool) bool {
			return slices.ContainsFunc(pods, func(pod Pod) bool { return pod.Node == node && fits(pod) })
		}
		hasRedis := runs(func(pod Pod) bool { return pod.Part == Redis })
		return hasRedis != withRedis || !runs(func(Pod) bool { return true })
	})
	if len(nodes) == 0 {
		return fmt.Errorf("no worker %s Redis runs a pod of the shop", which)
	}
	node := nodes[p.rng.IntN(len(nodes))]
	h.Name, h.Target, h.Class = fmt.Sprintf("node %s, %s Redis, stopped for %v", node, which, nodeAway), node, history.Outage
	h.Began = time.Now()
	if err := sh(ctx, c.options.NodeStop, node); err != nil {
		return err
	}
	h.Over = func(ctx context.Context) error {
		pause(ctx, nodeAway)
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partBound)
		defer cancel()
		if err := sh(ctx, c.options.NodeStart, node); err != nil {
			return err
		}
		if _, err := c.kubectl(ctx, "wait", "--for=condition=Ready", "node/"+node, "--timeout", partBound.String()); err != nil {
			return err
		}
		for _, part := range Services {
			deployment, err := c.deployment(ctx, part)
			if err == nil {
				err = c.rolledOut(ctx, part, deployment)
			}
			if err != nil {
				return err
			}
		}
		if withRedis {
			return c.await(ctx, func(pods []Pod) bool { return len(ready(pods, Redis)) > 0 })
		}
		return nil
	}
	return nil
}
