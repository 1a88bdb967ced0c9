package agent

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/e2etest/lab/agent/podnet"
)

// worker owns one pod on this node, from the moment the API server binds it
// here until it is gone there. It is known by its uid: a pod of the same name
// that comes later is another one.
type worker struct {
	a       *Agent
	uid     types.UID
	dir     string
	log     *slog.Logger
	objs    *objectUser
	volumes *volumes
	killAt  *deadline
	ctx     context.Context // ends when the pod is to stop
	halt    context.CancelFunc

	dirty   chan struct{} // the status may have changed
	refresh chan struct{} // a volume may have changed
	ended   chan struct{} // closed when all is done and cleaned up

	inits, mains []*container

	mu       sync.Mutex  // guards all following fields
	pod      *corev1.Pod // the latest version seen
	removed  bool        // the API server does not have it any more
	net      *podnet.Pod // nil with the node's network, or before there is one
	netReady bool
	stopped  bool
	message  string
}

func newWorker(ctx context.Context, a *Agent, pod *corev1.Pod) *worker {
	w := &worker{
		a: a, uid: pod.UID, pod: pod, dir: filepath.Join(a.cfg.StateDir, "pods", string(pod.UID)),
		log: a.cfg.Log.With("pod", pod.Namespace+"/"+pod.Name), killAt: newDeadline(time.Time{}),
		dirty: make(chan struct{}, 1), refresh: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	w.ctx, w.halt = context.WithCancel(ctx)
	w.objs = a.watcher.user(pod.Namespace, func() { poke(w.refresh) })
	w.volumes = newVolumes(filepath.Join(w.dir, "volumes"), a.client, w.objs, w.facts)
	previous := map[string]*corev1.ContainerStatus{}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			previous[list[i].Name] = &list[i]
		}
	}
	for i := range pod.Spec.InitContainers {
		w.inits = append(w.inits, newContainer(w, i, true, previous[pod.Spec.InitContainers[i].Name]))
	}
	for i := range pod.Spec.Containers {
		w.mains = append(w.mains, newContainer(w, i, false, previous[pod.Spec.Containers[i].Name]))
	}
	return w
}

// poke leaves a message in a channel of capacity one, if there is none yet.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (w *worker) changed() { poke(w.dirty) }

func (w *worker) latest() *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pod
}

// update takes a new version of the pod from the API server.
func (w *worker) update(pod *corev1.Pod) {
	w.mu.Lock()
	old := w.pod
	w.pod = pod
	w.mu.Unlock()
	if pod.DeletionTimestamp != nil {
		w.stopWithin(deletionGrace(pod))
		return
	}
	for i, c := range w.mains {
		if old.Spec.Containers[i].Image != pod.Spec.Containers[i].Image {
			c.askRestart("the image changed to "+pod.Spec.Containers[i].Image, specGrace(pod))
		}
	}
	poke(w.refresh)
	w.changed()
}

// remove says that the API server does not have the pod any more.
func (w *worker) remove() {
	w.mu.Lock()
	w.removed = true
	pod := w.pod
	w.mu.Unlock()
	w.stopWithin(deletionGrace(pod))
}

func (w *worker) stopWithin(grace time.Duration) {
	w.killAt.shorten(time.Now().Add(grace))
	w.halt()
}

// deletionGrace is how long a pod that is being deleted may take. A forced
// deletion gives it a second, as a kubelet does.
func deletionGrace(pod *corev1.Pod) time.Duration {
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		return max(time.Duration(*g)*time.Second, time.Second)
	}
	return specGrace(pod)
}

func specGrace(pod *corev1.Pod) time.Duration {
	if g := pod.Spec.TerminationGracePeriodSeconds; g != nil {
		return max(time.Duration(*g)*time.Second, time.Second)
	}
	return 30 * time.Second
}

func (w *worker) facts() podFacts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return podFacts{pod: w.pod, hostIPs: w.a.cfg.NodeIPs, podIPs: w.podIPsLocked(), allocatable: w.a.allocatable}
}

func (w *worker) podIPsLocked() []netip.Addr {
	switch {
	case w.pod.Spec.HostNetwork:
		return w.a.cfg.NodeIPs
	case w.net != nil:
		return w.net.Addrs
	}
	return nil
}

// podIP is where probes go; empty before the pod has an address.
func (w *worker) podIP() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ips := w.podIPsLocked(); len(ips) > 0 {
		return ips[0].String()
	}
	return ""
}

func (w *worker) netns() *os.File {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.net == nil {
		return nil
	}
	return w.net.NS
}

// run is the pod's life. life outlives w.ctx: it ends only with the agent.
func (w *worker) run(life context.Context) {
	defer close(w.ended)
	if w.ctx.Err() != nil { // deleted before this agent started anything of it
		w.objs.release()
		w.sayGoodbye(life)
		return
	}
	reporting, stopReporting := context.WithCancel(life)
	var reporter sync.WaitGroup
	reporter.Go(func() { w.report(life, reporting) })

	if w.prepare() {
		var feeder sync.WaitGroup
		feeder.Go(w.feedVolumes)
		if w.runContainers() {
			// Everything ended by itself; the pod waits to be deleted.
			w.finish()
			<-w.ctx.Done()
		}
		w.halt()
		feeder.Wait()
	}
	w.finish()
	stopReporting()
	reporter.Wait()
	w.cleanUp()
	w.sayGoodbye(life)
}

// prepare makes the network and the volumes. It tries until it succeeds, or
// returns false when the pod is to stop.
func (w *worker) prepare() bool {
	for n := 0; ; n++ {
		err := w.prepareOnce()
		if err == nil {
			w.changed()
			return true
		}
		if w.ctx.Err() != nil {
			return false
		}
		w.a.event(w.latest(), corev1.EventTypeWarning, "FailedMount", "%v", err)
		w.mu.Lock()
		w.message = err.Error()
		w.mu.Unlock()
		w.changed()
		select {
		case <-w.ctx.Done():
			return false
		case <-w.refresh:
		case <-time.After(backoff(n)):
		}
	}
}

func (w *worker) prepareOnce() error {
	pod := w.latest()
	if !pod.Spec.HostNetwork && w.netns() == nil {
		n, err := w.a.net.Attach(linkID(pod), sysctls(pod))
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.net = n
		w.mu.Unlock()
	}
	_, err := w.volumes.update(w.ctx)
	w.mu.Lock()
	w.netReady = true
	if err == nil {
		w.message = ""
	}
	w.mu.Unlock()
	return err
}

// linkID is short enough for a link name.
func linkID(pod *corev1.Pod) string { return string(pod.UID)[:min(len(pod.UID), 8)] }

func sysctls(pod *corev1.Pod) map[string]string {
	out := map[string]string{}
	if sc := pod.Spec.SecurityContext; sc != nil {
		for _, s := range sc.Sysctls {
			out[s.Name] = s.Value
		}
	}
	return out
}

// feedVolumes keeps the volumes up to date while the pod runs.
func (w *worker) feedVolumes() {
	for {
		next, err := w.volumes.update(w.ctx)
		if err != nil && w.ctx.Err() == nil {
			w.log.Warn("cannot refresh the volumes", "err", err)
			next = time.Now().Add(time.Second)
		}
		var renew <-chan time.Time
		if !next.IsZero() {
			renew = time.After(time.Until(next))
		}
		select {
		case <-w.ctx.Done():
			return
		case <-w.refresh:
		case <-renew:
		}
	}
}

// runContainers runs the init containers one after the other, then the others
// together. It returns true when all have ended for good, false when the pod
// was stopped. Sidecars are stopped after the main containers.
func (w *worker) runContainers() (allEnded bool) {
	sideCtx, stopSides := context.WithCancel(context.WithoutCancel(w.ctx))
	var sides sync.WaitGroup
	defer func() {
		if w.ctx.Err() == nil {
			w.killAt.shorten(time.Now().Add(specGrace(w.latest())))
		}
		stopSides()
		sides.Wait()
	}()
	for i, c := range w.inits {
		if !isSidecar(w.latest(), i) {
			if !c.run(w.ctx, func() {}) {
				return w.ctx.Err() == nil
			}
			continue
		}
		up := make(chan struct{})
		sides.Go(func() { c.run(sideCtx, func() { close(up) }) })
		select {
		case <-up:
		case <-w.ctx.Done():
			return false
		}
	}
	var mains sync.WaitGroup
	for _, c := range w.mains {
		mains.Go(func() { c.run(w.ctx, func() {}) })
	}
	mains.Wait()
	return w.ctx.Err() == nil
}

// finish records that no container runs, or will.
func (w *worker) finish() {
	w.mu.Lock()
	w.stopped = true
	w.mu.Unlock()
	w.changed()
}

func (w *worker) cleanUp() {
	w.objs.release()
	w.mu.Lock()
	n := w.net
	w.net = nil
	w.mu.Unlock()
	var err error
	if n != nil {
		err = n.Close()
	}
	if err := errors.Join(err, os.RemoveAll(w.dir)); err != nil {
		w.log.Warn("cannot clean up after the pod", "err", err)
	}
}
