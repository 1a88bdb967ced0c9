//go:build lab

package assignment

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
	"github.com/heraldlb/herald/e2etest/herald"
)

// while is how long a story looks that nothing happens. What Herald does, it does
// within milliseconds.
const while = 2 * time.Second

// story is one test with addresses of its own: a /24 of the range for benchmarks
// and a /64 of the range for documentation. Nobody has to reach them.
type story struct {
	*harness.Test
	n int32
}

var stories atomic.Int32

func newStory(t *testing.T) *story {
	t.Helper()
	return &story{harness.New(t), stories.Add(1)}
}

// v4 and v6 are the story's addresses.
func (s *story) v4(i int) string { return fmt.Sprintf("198.%d.%d.%d", 18+s.n>>8, s.n&255, i) }
func (s *story) v6(i int) string { return addr(fmt.Sprintf("2001:db8:%x::%x", s.n, i)).String() }

// one4 is an address as a pool has it, range4 and range6 are several.
func (s *story) one4(i int) string          { return s.v4(i) + "/32" }
func (s *story) one6(i int) string          { return s.v6(i) + "/128" }
func (s *story) range4(from, to int) string { return s.v4(from) + "-" + s.v4(to) }
func (s *story) range6(from, to int) string { return s.v6(from) + "-" + s.v6(to) }

// ours makes a pool for the Services of the story's namespace alone.
func (s *story) ours(suffix string, addresses ...string) string {
	s.Helper()
	return s.Pool(suffix, fmt.Sprintf("addresses: [%s], serviceAllocation: {namespaces: [%s]}", list(addresses), s.Namespace))
}

// elsewhere makes a pool that is not for the story: so there is one.
func (s *story) elsewhere() {
	s.Helper()
	s.Pool("elsewhere", "addresses: ["+s.one4(200)+"], serviceAllocation: {namespaces: [elsewhere]}")
}

// alone waits until no Service of an earlier story waits for an address, which a
// pool for everybody would give it.
func (s *story) alone() {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		all, err := s.Kube.CoreV1().Services("").List(s.Ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, svc := range all.Items {
			if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
				return fmt.Errorf("service %s/%s is still there", svc.Namespace, svc.Name)
			}
		}
		return nil
	})
}

// list is a YAML list of texts with colons in them.
func list(texts []string) string {
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = fmt.Sprintf("%q", t)
	}
	return strings.Join(quoted, ", ")
}

// in is the story in another namespace.
func (s *story) in(namespace string) *story {
	other := *s.Test
	other.Namespace = namespace
	return &story{&other, s.n}
}

// namespace makes one more namespace, with labels, and is the story in it.
func (s *story) namespace(suffix string, labels map[string]string) *story {
	s.Helper()
	name := s.Namespace + "-" + suffix
	_, err := s.Kube.CoreV1().Namespaces().Create(s.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	s.Must(err)
	s.OnEnd("delete namespace "+name, func(ctx context.Context) error {
		return s.Kube.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{})
	})
	return s.in(name)
}

// label sets a label of the story's namespace; "" removes it.
func (s *story) label(key, value string) {
	s.Helper()
	ns, err := s.Kube.CoreV1().Namespaces().Get(s.Ctx, s.Namespace, metav1.GetOptions{})
	s.Must(err)
	if delete(ns.Labels, key); value != "" {
		metav1.SetMetaDataLabel(&ns.ObjectMeta, key, value)
	}
	_, err = s.Kube.CoreV1().Namespaces().Update(s.Ctx, ns, metav1.UpdateOptions{})
	s.Must(err)
}

// has waits until a Service has exactly these addresses, in this order.
func (s *story) has(name string, want ...string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error { return s.hasNow(name, want...) })
}

// keeps checks that for a while it has nothing else.
func (s *story) keeps(name string, want ...string) {
	s.Helper()
	s.Always(while, func() error { return s.hasNow(name, want...) })
}

func (s *story) hasNow(name string, want ...string) error {
	addrs, err := s.AddressesOf(name)
	if err != nil {
		return err
	}
	var got []string
	for _, a := range addrs {
		got = append(got, a.String())
	}
	if !slices.Equal(got, want) {
		c, err := s.Condition(name, harness.Assigned)
		return fmt.Errorf("service %s has %v, want %v; %s: %s (%w)", name, got, want, c.Reason, c.Message, err)
	}
	return nil
}

// waits waits until a Service says that it has no address, and why.
func (s *story) waits(name, reason string) metav1.Condition {
	s.Helper()
	c := s.WaitCondition(name, harness.Assigned, metav1.ConditionFalse, reason)
	s.has(name)
	return c
}

// rests checks that for a while nobody writes to a Service, once the speakers
// have said that no advertisement is for it.
func (s *story) rests(name string) {
	s.Helper()
	s.WaitCondition(name, harness.Announced, metav1.ConditionFalse, "NoMatchingAdvertisement")
	before, err := s.GetService(name)
	s.Must(err)
	s.Always(while, func() error {
		now, err := s.GetService(name)
		if err == nil && now.ResourceVersion != before.ResourceVersion {
			err = fmt.Errorf("service %s is written again: it said %+v, now %+v", name, before.Status, now.Status)
		}
		return err
	})
}

// cleared waits until nothing of an assignment is left on a Service.
func (s *story) cleared(name string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		svc, err := s.GetService(name)
		if err != nil {
			return err
		}
		pool, annotated := svc.Annotations["metallb.io/ip-allocated-from-pool"]
		c, err := s.Condition(name, harness.Assigned)
		if err == nil && (annotated || c.Type != "" || len(svc.Status.LoadBalancer.Ingress) > 0) {
			err = fmt.Errorf("service %s still says something: pool %q, condition %+v, addresses %+v", name, pool, c, svc.Status.LoadBalancer)
		}
		return err
	})
}

// told waits for an event about an object, with words in its note.
func (s *story) told(namespace, kind, name, reason, words string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		events, err := s.EventsOf(namespace, kind, name)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(events, func(e harness.Event) bool { return e.Reason == reason && strings.Contains(e.Note, words) }) {
			return fmt.Errorf("%s %s: no event %s with %q among %+v", kind, name, reason, words, events)
		}
		return nil
	})
}

// toldOf is told about a Service.
func (s *story) toldOf(service, reason, words string) {
	s.Helper()
	s.told(s.Namespace, "Service", service, reason, words)
}

// poolSays waits for the four counters of a pool: assigned and available IPv4,
// assigned and available IPv6.
func (s *story) poolSays(pool string, assigned4, available4, assigned6, available6 int64) {
	s.Helper()
	want := fmt.Sprint(map[string]any{"assignedIPv4": assigned4, "availableIPv4": available4, "assignedIPv6": assigned6, "availableIPv6": available6})
	s.Eventually(harness.Patience, func() error {
		o, err := s.Object(harness.Pools, pool)
		if err != nil {
			return err
		}
		if got := fmt.Sprint(o.Object["status"]); got != want {
			return fmt.Errorf("the status of pool %s is %s, want %s", pool, got, want)
		}
		return nil
	})
}

// history records every address list that the Services of the story's namespace
// ever have, from now on.
func (s *story) history() *history {
	s.Helper()
	h := &history{seen: map[string][]string{}}
	services, err := s.Kube.CoreV1().Services(s.Namespace).List(s.Ctx, metav1.ListOptions{})
	s.Must(err)
	for i := range services.Items {
		h.add(&services.Items[i])
	}
	w, err := s.Kube.CoreV1().Services(s.Namespace).Watch(s.Ctx, metav1.ListOptions{ResourceVersion: services.ResourceVersion})
	s.Must(err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			if svc, ok := e.Object.(*corev1.Service); ok && e.Type != watch.Deleted {
				h.add(svc)
			}
		}
	}()
	s.Cleanup(func() { w.Stop(); <-done })
	return h
}

type history struct {
	mu   sync.Mutex
	seen map[string][]string
}

func (h *history) add(svc *corev1.Service) {
	var addrs []string
	for _, i := range svc.Status.LoadBalancer.Ingress {
		addrs = append(addrs, i.IP)
	}
	now := strings.Join(addrs, ",")
	h.mu.Lock()
	defer h.mu.Unlock()
	if past := h.seen[svc.Name]; len(past) == 0 || past[len(past)-1] != now {
		h.seen[svc.Name] = append(past, now)
	}
}

// was checks what a Service ever had, one after the other. "" is nothing.
func (h *history) was(s *story, name string, want ...string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if got := h.seen[name]; !slices.Equal(got, want) {
			return fmt.Errorf("over time service %s had %q, want %q", name, got, want)
		}
		return nil
	})
}

// errorsOf are the lines of the controller's ConfigurationState about a pool.
func (s *story) errorsOf(pool string) ([]string, error) {
	o, err := s.Object(harness.ConfigurationStates, "controller")
	if err != nil {
		return nil, err
	}
	status, _ := o.Object["status"].(map[string]any)
	summary, _ := status["errorSummary"].(string)
	var lines []string
	for line := range strings.Lines(summary) {
		if strings.Contains(line, "IPAddressPool "+pool+",") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if len(lines) > 0 && status["result"] != "Invalid" {
		return nil, fmt.Errorf("the ConfigurationState has errors, but its result is %v", status["result"])
	}
	return lines, nil
}

// broken waits until the user is told what is wrong with a pool: the
// ConfigurationState has a line about it, and so does an event on the pool.
func (s *story) broken(pool, field, words string) {
	s.Helper()
	var line string
	s.Eventually(harness.Patience, func() error {
		lines, err := s.errorsOf(pool)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(lines, func(l string) bool {
			return strings.Contains(l, "IPAddressPool "+pool+", "+field+": ") && strings.Contains(l, words)
		})
		if i < 0 {
			return fmt.Errorf("the ConfigurationState says of pool %s %q, want %s and %q", pool, lines, field, words)
		}
		line = lines[i]
		return nil
	})
	s.told(herald.Namespace, "IPAddressPool", pool, "ConfigurationError", words)
	s.Step("%s", line)
}

// mended waits until nothing is said against a pool any more.
func (s *story) mended(pool string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		lines, err := s.errorsOf(pool)
		if err == nil && len(lines) > 0 {
			err = fmt.Errorf("the ConfigurationState still says %q", lines)
		}
		return err
	})
}

// addr reads an address.
func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// policy sets the ipFamilyPolicy of a Service.
func policy(p corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.IPFamilyPolicy = &p }
}
