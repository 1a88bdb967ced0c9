package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// probeCounter turns single results into a verdict by the thresholds.
type probeCounter struct {
	success, failure int32 // thresholds
	healthy          bool
	streak           int32 // results in a row that contradict the verdict
}

// newProbeCounter starts with the given verdict. The API server fills the
// thresholds in; 1 and 3 are its defaults.
func newProbeCounter(p *corev1.Probe, healthy bool) *probeCounter {
	c := &probeCounter{success: p.SuccessThreshold, failure: p.FailureThreshold, healthy: healthy}
	if c.success < 1 {
		c.success = 1
	}
	if c.failure < 1 {
		c.failure = 3
	}
	return c
}

// observe counts one result. failed is true when the failure threshold is
// reached, again for each further row of that many failures; a verdict that is
// not healthy from the start can so fail too, as a startup probe does.
func (c *probeCounter) observe(ok bool) (changed, failed bool) {
	if ok == c.healthy && ok {
		c.streak = 0
		return false, false
	}
	if ok {
		c.streak = max(c.streak, 0) + 1
		if c.streak < c.success {
			return false, false
		}
		c.healthy, c.streak = true, 0
		return true, false
	}
	c.streak = min(c.streak, 0) - 1
	if -c.streak < c.failure {
		return false, false
	}
	changed = c.healthy
	c.healthy, c.streak = false, 0
	return changed, true
}

// eagerPeriod is how often a probe that has not succeeded yet is tried between
// its own periods. Such extra tries count when they succeed and not when they
// fail, so that a container is ready as soon as it can be, and fails no earlier.
const eagerPeriod = 100 * time.Millisecond

// probeTimes is a probe's schedule with the API's defaults applied.
type probeTimes struct{ delay, period, timeout time.Duration }

func timesOf(p *corev1.Probe) probeTimes {
	t := probeTimes{
		delay:   time.Duration(p.InitialDelaySeconds) * time.Second,
		period:  time.Duration(p.PeriodSeconds) * time.Second,
		timeout: time.Duration(p.TimeoutSeconds) * time.Second,
	}
	if t.period <= 0 {
		t.period = 10 * time.Second
	}
	if t.timeout <= 0 {
		t.timeout = time.Second
	}
	return t
}

// runProbe probes until ctx ends or report returns false. eager asks for the
// extra tries. report gets each result that counts.
func runProbe(ctx context.Context, p *corev1.Probe, eager bool, try func(context.Context) error, report func(error) bool) {
	t := timesOf(p)
	if !sleep(ctx, t.delay) {
		return
	}
	succeeded := !eager
	due := time.Now()
	for {
		tryCtx, cancel := context.WithTimeout(ctx, t.timeout)
		err := try(tryCtx)
		cancel()
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		scheduled := !now.Before(due)
		if scheduled {
			due = now.Add(t.period)
		}
		if (scheduled || err == nil) && !report(err) {
			return
		}
		succeeded = succeeded || err == nil
		wait := due.Sub(now)
		if !succeeded {
			wait = min(wait, eagerPeriod)
		}
		if !sleep(ctx, wait) {
			return
		}
	}
}

// sleep waits for d, or returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// execFunc runs a command in the container.
type execFunc func(ctx context.Context, argv []string) error

// handlerFunc gives the try of a probe, or the action of a lifecycle hook.
// Connections are made from the node's namespace, as a kubelet does.
func handlerFunc(h corev1.ProbeHandler, c *corev1.Container, podIP string, run execFunc) (func(context.Context) error, error) {
	switch {
	case h.HTTPGet != nil:
		return httpProbe(h.HTTPGet, c, podIP)
	case h.TCPSocket != nil:
		port, err := portOf(h.TCPSocket.Port, c)
		if err != nil {
			return nil, err
		}
		addr := net.JoinHostPort(orElse(h.TCPSocket.Host, podIP), strconv.Itoa(port))
		return func(ctx context.Context) error {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err != nil {
				return err
			}
			return conn.Close()
		}, nil
	case h.Exec != nil:
		return func(ctx context.Context) error { return run(ctx, h.Exec.Command) }, nil
	}
	return nil, errors.New("this kind of probe is not supported by the lab's node agent: expected httpGet, tcpSocket or exec")
}

func httpProbe(get *corev1.HTTPGetAction, c *corev1.Container, podIP string) (func(context.Context) error, error) {
	port, err := portOf(get.Port, c)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse("/" + strings.TrimPrefix(get.Path, "/"))
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", get.Path, err)
	}
	u.Scheme = strings.ToLower(orElse(string(get.Scheme), "http"))
	u.Host = net.JoinHostPort(orElse(get.Host, podIP), strconv.Itoa(port))
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // a kubelet does not verify either
		DisableKeepAlives: true,
	}}
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return err
		}
		req.Header.Set("User-Agent", "kube-probe/1.35")
		for _, h := range get.HTTPHeaders {
			req.Header.Add(h.Name, h.Value)
			if strings.EqualFold(h.Name, "Host") {
				req.Host = h.Value
			}
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 512)) // for the message only
		if resp.StatusCode < 200 || resp.StatusCode >= 400 {
			return fmt.Errorf("HTTP probe failed with status %d: %s", resp.StatusCode, strings.TrimSpace(string(body)))
		}
		return nil
	}, nil
}

// portOf finds a port by number, or by its name in the container.
func portOf(p intstr.IntOrString, c *corev1.Container) (int, error) {
	if p.Type == intstr.Int {
		return p.IntValue(), nil
	}
	for _, cp := range c.Ports {
		if cp.Name == p.StrVal {
			return int(cp.ContainerPort), nil
		}
	}
	if n, err := strconv.Atoi(p.StrVal); err == nil {
		return n, nil
	}
	return 0, fmt.Errorf("port %q is not one of container %s", p.StrVal, c.Name)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
