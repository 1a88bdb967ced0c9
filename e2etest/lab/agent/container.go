package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/heraldlb/herald/e2etest/lab/agent/sandbox"
)

// container runs one container of a pod, again and again as its restart policy
// says. Its goroutine is run; status may be read at any time.
type container struct {
	w     *worker
	name  string
	index int
	init  bool
	ran   bool // a process was started; used by run only

	restart chan restartRequest // asks run to end the present process

	mu      sync.Mutex // guards all following fields
	status  corev1.ContainerStatus
	process *sandbox.Process
	spec    *sandbox.Spec // of process
	logFrom int64         // where the present process' output begins in the log
	logPrev int64         // where the one before it began
}

type restartRequest struct {
	why   string
	grace time.Duration
}

func newContainer(w *worker, index int, init bool, previous *corev1.ContainerStatus) *container {
	c := &container{w: w, index: index, init: init, restart: make(chan restartRequest, 1)}
	spec := c.specNow()
	c.name = spec.Name
	c.status = corev1.ContainerStatus{Name: spec.Name, Image: spec.Image, Started: ptr.To(false),
		State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}}
	if init {
		c.status.State.Waiting.Reason = "PodInitializing"
	}
	// The API server remembers processes that an earlier agent ran: they ended
	// with it.
	if previous != nil {
		c.status.RestartCount = previous.RestartCount
		c.status.LastTerminationState = previous.LastTerminationState
		if r := previous.State.Running; r != nil {
			c.status.RestartCount++
			c.status.LastTerminationState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 137, Reason: "ContainerStatusUnknown", StartedAt: r.StartedAt, FinishedAt: metav1.Now(),
				Message: "the process ended with the node agent that ran it"}}
		}
	}
	return c
}

// specNow is the container in the pod's latest version: its image may change.
func (c *container) specNow() *corev1.Container {
	pod := c.w.latest()
	if c.init {
		return &pod.Spec.InitContainers[c.index]
	}
	return &pod.Spec.Containers[c.index]
}

func (c *container) restartPolicy() corev1.RestartPolicy {
	pod := c.w.latest()
	if c.init {
		if isSidecar(pod, c.index) {
			return corev1.RestartPolicyAlways
		}
		if pod.Spec.RestartPolicy == corev1.RestartPolicyAlways {
			return corev1.RestartPolicyOnFailure
		}
	}
	return pod.Spec.RestartPolicy
}

// snapshot returns a copy of the status.
func (c *container) snapshot() corev1.ContainerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.status.DeepCopy()
}

// edit changes the status and has it reported.
func (c *container) edit(f func(s *corev1.ContainerStatus)) {
	c.mu.Lock()
	f(&c.status)
	c.mu.Unlock()
	c.w.changed()
}

// run runs the container until its policy says that it has ended for good, or
// ctx ends, when it is stopped gracefully. started is called once, when it is
// started in the API's sense (after the startup probe). ok says whether the
// last process ended well.
func (c *container) run(ctx context.Context, started func()) (ok bool) {
	once := sync.OnceFunc(started)
	failures := 0
	for {
		began := time.Now()
		code, err := c.runOnce(ctx, once)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			policy := c.restartPolicy()
			if policy == corev1.RestartPolicyNever || (policy == corev1.RestartPolicyOnFailure && code == 0) {
				return code == 0
			}
		}
		if time.Since(began) > backoffReset {
			failures = 0
		}
		delay := backoff(failures)
		failures++
		c.waitReason(err, delay)
		if !sleep(ctx, delay) {
			return false
		}
	}
}

// waitReason says in the status why the container is not running.
func (c *container) waitReason(err error, delay time.Duration) {
	var w *waitError
	if !errors.As(err, &w) {
		c.w.a.event(c.w.latest(), corev1.EventTypeWarning, "BackOff", "Back-off restarting container %s", c.name)
		w = &waitError{"CrashLoopBackOff", fmt.Errorf("back-off %v restarting failed container %s", delay, c.name)}
	} else {
		c.w.a.event(c.w.latest(), corev1.EventTypeWarning, "Failed", "Container %s: %v", c.name, w.err)
	}
	c.edit(func(s *corev1.ContainerStatus) {
		if t := s.State.Terminated; t != nil {
			s.LastTerminationState = corev1.ContainerState{Terminated: t}
		}
		s.Ready = false
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: w.reason, Message: w.err.Error()}}
	})
}

// waitError is a reason for which no process was started.
type waitError struct {
	reason string
	err    error
}

func (e *waitError) Error() string { return e.reason + ": " + e.err.Error() }
func (e *waitError) Unwrap() error { return e.err }

// runOnce starts a process and waits for its end. An error means that it did
// not start for a reason that may go away, such as a missing Secret.
func (c *container) runOnce(ctx context.Context, started func()) (code int, err error) {
	spec := c.specNow()
	desc, img, err := c.describe(spec)
	if err != nil {
		return 0, err
	}
	out, err := c.openLog()
	if err != nil {
		return 0, &waitError{"CreateContainerError", err}
	}
	if c.ran {
		c.edit(func(s *corev1.ContainerStatus) { s.RestartCount++ })
	}
	c.ran = true
	p, err := c.w.a.spawner.Start(desc, c.w.netns(), out)
	out.Close()
	if err != nil {
		c.ended(sandbox.Exit{Code: 128}, time.Now(), "StartError", err.Error())
		c.w.a.event(c.w.latest(), corev1.EventTypeWarning, "Failed", "Container %s: %v", c.name, err)
		return 128, nil
	}
	removePID := c.writePID(p.PID)
	defer removePID()
	startedAt := time.Now()
	c.begin(spec, img, desc, p, startedAt)
	reason := c.supervise(ctx, spec, p, started)
	exit := p.Exit()
	c.ended(exit, startedAt, "", reason)
	return exit.Code, nil
}

// begin records that the process runs.
func (c *container) begin(spec *corev1.Container, img Image, desc *sandbox.Spec, p *sandbox.Process, at time.Time) {
	c.mu.Lock()
	c.process, c.spec = p, desc
	c.mu.Unlock()
	select { // a request that was meant for an earlier process
	case <-c.restart:
	default:
	}
	c.edit(func(s *corev1.ContainerStatus) {
		s.Image, s.ImageID = spec.Image, img.ID
		s.ContainerID = fmt.Sprintf("lab://%d-%s-%d", p.PID, c.name, at.UnixNano())
		s.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Time{Time: at}}}
		s.Started = ptr.To(spec.StartupProbe == nil)
		s.Ready = spec.StartupProbe == nil && spec.ReadinessProbe == nil
	})
	c.w.a.event(c.w.latest(), corev1.EventTypeNormal, "Started", "Started container %s", c.name)
}

// ended records how the process ended.
func (c *container) ended(exit sandbox.Exit, startedAt time.Time, reason, message string) {
	if reason == "" {
		reason = "Error"
		if exit.Code == 0 {
			reason = "Completed"
		}
	}
	c.mu.Lock()
	c.process = nil
	c.mu.Unlock()
	c.edit(func(s *corev1.ContainerStatus) {
		s.Ready, s.Started = c.init && exit.Code == 0, ptr.To(false)
		s.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			ExitCode: int32(exit.Code), Signal: int32(exit.Signal), Reason: reason, Message: message,
			StartedAt: metav1.Time{Time: startedAt}, FinishedAt: metav1.Now(), ContainerID: s.ContainerID}}
	})
}

// supervise probes the process until it ends, and stops it when the pod ends,
// a probe fails or a new image is wanted. It returns why it stopped it.
func (c *container) supervise(ctx context.Context, spec *corev1.Container, p *sandbox.Process, started func()) (reason string) {
	// Readiness goes on while the container is being stopped, as with a kubelet.
	alive, dead := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer func() { dead(); wg.Wait() }()
	wg.Go(func() { c.postStart(alive, spec) })
	wg.Go(func() { c.probe(ctx, alive, spec, started) })
	select {
	case <-p.Done():
		return ""
	case r := <-c.restart:
		c.w.a.event(c.w.latest(), corev1.EventTypeNormal, "Killing", "Container %s: %s", c.name, r.why)
		c.stop(spec, p, newDeadline(time.Now().Add(r.grace)))
		return r.why
	case <-ctx.Done():
		c.w.a.event(c.w.latest(), corev1.EventTypeNormal, "Killing", "Stopping container %s", c.name)
		c.stop(spec, p, c.w.killAt)
		return ""
	}
}

// stop runs the preStop hook, sends SIGTERM, and SIGKILL at the deadline.
func (c *container) stop(spec *corev1.Container, p *sandbox.Process, killAt *deadline) {
	ctx, cancel := killAt.context()
	defer cancel()
	over := context.AfterFunc(ctx, func() { _ = p.Signal(syscall.SIGKILL) })
	defer over()
	go func() {
		select { // a process that ends during preStop needs no more waiting
		case <-p.Done():
			cancel()
		case <-ctx.Done():
		}
	}()
	if hook := spec.Lifecycle; hook != nil && hook.PreStop != nil {
		c.hook(ctx, "PreStop", hook.PreStop, spec)
	}
	// The process may have ended by itself; then there is nobody to tell.
	_ = p.Signal(syscall.SIGTERM)
	<-p.Done()
}

func (c *container) postStart(ctx context.Context, spec *corev1.Container) {
	if hook := spec.Lifecycle; hook != nil && hook.PostStart != nil {
		c.hook(ctx, "PostStart", hook.PostStart, spec)
	}
}

// hook runs a lifecycle action; its failure is an event, and the container goes
// on (after preStop: to its end).
func (c *container) hook(ctx context.Context, name string, h *corev1.LifecycleHandler, spec *corev1.Container) {
	if h.Sleep != nil {
		sleep(ctx, time.Duration(h.Sleep.Seconds)*time.Second)
		return
	}
	act, err := handlerFunc(corev1.ProbeHandler{HTTPGet: h.HTTPGet, Exec: h.Exec, TCPSocket: h.TCPSocket}, spec, c.w.podIP(), c.exec)
	if err == nil {
		err = act(ctx)
	}
	if err != nil {
		c.w.a.event(c.w.latest(), corev1.EventTypeWarning, "Failed"+name+"Hook", "Container %s: %v", c.name, err)
	}
}

// probe runs the startup probe, then readiness (until the process ends) and
// liveness (until the pod ends).
func (c *container) probe(ctx, alive context.Context, spec *corev1.Container, started func()) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(alive, cancel)()
	if p := spec.StartupProbe; p != nil {
		up := false
		counter := newProbeCounter(p, false)
		c.runProbe(ctx, "Startup", spec, p, true, func(ok bool) bool {
			changed, failed := counter.observe(ok)
			if failed {
				c.kill("startup probe failed", p)
			}
			up = changed
			return !up
		})
		if !up {
			return
		}
		c.edit(func(s *corev1.ContainerStatus) {
			s.Started, s.Ready = ptr.To(true), spec.ReadinessProbe == nil
		})
	}
	started()
	var wg sync.WaitGroup
	if p := spec.ReadinessProbe; p != nil {
		counter := newProbeCounter(p, false)
		wg.Go(func() {
			c.runProbe(alive, "Readiness", spec, p, true, func(ok bool) bool {
				if changed, _ := counter.observe(ok); changed {
					c.edit(func(s *corev1.ContainerStatus) { s.Ready = counter.healthy && s.State.Running != nil })
				}
				return true
			})
		})
	}
	if p := spec.LivenessProbe; p != nil {
		counter := newProbeCounter(p, true)
		wg.Go(func() {
			c.runProbe(ctx, "Liveness", spec, p, false, func(ok bool) bool {
				if _, failed := counter.observe(ok); failed {
					c.kill("liveness probe failed", p)
				}
				return true
			})
		})
	}
	wg.Wait()
}

func (c *container) runProbe(ctx context.Context, kind string, spec *corev1.Container, p *corev1.Probe, eager bool, result func(ok bool) bool) {
	try, err := handlerFunc(p.ProbeHandler, spec, c.w.podIP(), c.exec)
	if err != nil {
		try = func(context.Context) error { return err }
	}
	runProbe(ctx, p, eager, try, func(err error) bool {
		if err != nil {
			c.w.a.event(c.w.latest(), corev1.EventTypeWarning, "Unhealthy", "%s probe of container %s failed: %v", kind, c.name, err)
		}
		return result(err == nil)
	})
}

// kill asks for a restart; the probe's own grace period wins over the pod's.
func (c *container) kill(why string, p *corev1.Probe) {
	grace := first(p.TerminationGracePeriodSeconds, c.w.latest().Spec.TerminationGracePeriodSeconds, ptr.To[int64](30))
	c.askRestart(why, time.Duration(*grace)*time.Second)
}

func (c *container) askRestart(why string, grace time.Duration) {
	select {
	case c.restart <- restartRequest{why, grace}:
	default: // one is on its way already
	}
}

// exec runs a command in the container for a probe or a hook.
func (c *container) exec(ctx context.Context, argv []string) error {
	c.mu.Lock()
	p, spec := c.process, c.spec
	c.mu.Unlock()
	if p == nil {
		return errors.New("the container is not running")
	}
	code, err := c.w.a.spawner.Exec(ctx, p, sandbox.ExecOptions{Identity: spec.Identity, Argv: argv, Env: spec.Env, Cwd: spec.Cwd})
	if err == nil && code != 0 {
		err = fmt.Errorf("command exited with status %d", code)
	}
	return err
}

// writePID leaves the process' id where tools of the lab find it.
func (c *container) writePID(pid int) (remove func()) {
	path := filepath.Join(c.w.a.cfg.StateDir, "pids", fmt.Sprintf("%s-%s", c.w.uid, c.name))
	if err := os.WriteFile(path, fmt.Appendln(nil, pid), 0o644); err != nil {
		c.w.log.Warn("cannot write the pid file", "err", err)
	}
	return func() { _ = os.Remove(path) }
}
