//go:build lab

package harness

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/heraldlb/herald/e2etest/herald"
)

// What a user changes needs a moment until Herald follows. What lasts longer than
// that is wrong.
const (
	// conflictLimit is for Services that share and come to contradict each other.
	conflictLimit = 10 * time.Second
	// outsideLimit is for an address whose pool went. After its start the
	// controller itself waits 10 s for a pool to come back.
	outsideLimit = 20 * time.Second
	// poolMemory is how long a pool that went still explains a fresh assignment,
	// and poolLag how far one watch may be behind another.
	poolMemory = 5 * time.Second
	poolLag    = time.Second
	soundTick  = 250 * time.Millisecond
)

// AddressesAreSound is a Guard. It sees every version of every Service and every
// pool, and complains if an address is ever in two Services' status that do not
// share it, and if a Service is given, or keeps, an address that no pool holds.
func AddressesAreSound(w *World) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	services, err := watchFromNow(ctx, func(o metav1.ListOptions) (string, error) {
		list, err := w.Kube.CoreV1().Services("").List(ctx, o)
		return list.GetResourceVersion(), err
	}, w.Kube.CoreV1().Services("").Watch)
	if err != nil {
		return nil, err
	}
	client := w.Dynamic.Resource(Pools).Namespace(herald.Namespace)
	pools, err := watchFromNow(ctx, func(o metav1.ListOptions) (string, error) {
		list, err := client.List(ctx, o)
		if err != nil {
			return "", err
		}
		return list.GetResourceVersion(), nil
	}, func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) { return client.Watch(ctx, o) })
	if err != nil {
		return nil, err
	}
	verdict := make(chan error, 1)
	go func() { verdict <- newSound().run(ctx, services, pools) }()
	return func() error { cancel(); return <-verdict }, nil
}

// watchFromNow shows every change of some objects, through interruptions.
func watchFromNow(ctx context.Context, list func(metav1.ListOptions) (string, error),
	from func(context.Context, metav1.ListOptions) (watch.Interface, error)) (<-chan watch.Event, error) {
	version, err := list(metav1.ListOptions{Limit: 1})
	if err != nil {
		return nil, err
	}
	w, err := watchtools.NewRetryWatcherWithContext(ctx, version, &cache.ListWatch{WatchFuncWithContext: from})
	if err != nil {
		return nil, err
	}
	return w.ResultChan(), nil
}

// sound is what the guard knows. Only its run touches it.
type sound struct {
	services map[string]*holder
	pools    map[string]*poolLife
	past     []*poolLife
	gains    []gain
	// since is when each complaint that may pass began.
	since map[string]time.Time
	wrong []string
	// writes and gained show that the guard saw something.
	writes, gained int
}

// A holder is what a Service says that matters to who may hold what.
type holder struct {
	addrs        []netip.Addr
	key, backend string
	ports        []string
}

// A poolLife is one version of a pool; until is zero while it stands.
type poolLife struct {
	spans []addressSpan
	until time.Time
}

type addressSpan struct{ from, to netip.Addr }

// A gain is an address that a Service was given.
type gain struct {
	service string
	addr    netip.Addr
	at      time.Time
}

func newSound() *sound {
	return &sound{services: map[string]*holder{}, pools: map[string]*poolLife{}, since: map[string]time.Time{}}
}

func (s *sound) run(ctx context.Context, services, pools <-chan watch.Event) error {
	tick := time.NewTicker(soundTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.verdict()
		case e, ok := <-services:
			if !ok || e.Type == watch.Error {
				s.say("the watch of Services broke: %v", e.Object)
				services = nil
				continue
			}
			s.service(e)
		case e, ok := <-pools:
			if !ok || e.Type == watch.Error {
				s.say("the watch of pools broke: %v", e.Object)
				pools = nil
				continue
			}
			s.pool(e)
		case now := <-tick.C:
			s.look(now)
		}
	}
}

func (s *sound) verdict() error {
	fmt.Fprintf(os.Stderr, "e2e: addresses: %d versions of Services seen, %d times one was given an address, %d complaints\n",
		s.writes, s.gained, len(s.wrong))
	if len(s.wrong) == 0 {
		return nil
	}
	return errors.New(strings.Join(s.wrong, "\n"))
}

// say complains, once about one thing.
func (s *sound) say(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !slices.ContainsFunc(s.wrong, func(w string) bool { return strings.HasSuffix(w, text) }) {
		s.wrong = append(s.wrong, time.Now().Format("15:04:05.000 ")+text)
	}
}

func (s *sound) service(e watch.Event) {
	svc, ok := e.Object.(*corev1.Service)
	if !ok {
		return
	}
	s.writes++
	name := svc.Namespace + "/" + svc.Name
	old := s.services[name]
	if e.Type == watch.Deleted {
		delete(s.services, name)
		return
	}
	now := holderOf(svc)
	s.services[name] = now
	for _, addr := range now.addrs {
		if old != nil && slices.Contains(old.addrs, addr) {
			continue
		}
		s.gained++
		s.gains = append(s.gains, gain{name, addr, time.Now()})
		for other, h := range s.services {
			if other != name && slices.Contains(h.addrs, addr) && (h.key == "" || now.key == "") {
				s.say("%s was given to Service %s while Service %s had it, and they do not share", addr, name, other)
			}
		}
	}
}

func holderOf(svc *corev1.Service) *holder {
	h := &holder{key: svc.Annotations["metallb.io/allow-shared-ip"]}
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		h.backend = labels.Set(svc.Spec.Selector).String()
	}
	for _, p := range svc.Spec.Ports {
		h.ports = append(h.ports, fmt.Sprintf("%d/%s", p.Port, p.Protocol))
	}
	for _, i := range svc.Status.LoadBalancer.Ingress {
		if a, err := netip.ParseAddr(i.IP); err == nil {
			h.addrs = append(h.addrs, a)
		}
	}
	return h
}

// mayShare says whether two Services may have one address.
func (h *holder) mayShare(o *holder) bool {
	return h.key != "" && h.key == o.key && h.backend == o.backend &&
		!slices.ContainsFunc(h.ports, func(p string) bool { return slices.Contains(o.ports, p) })
}

func (s *sound) pool(e watch.Event) {
	o, ok := e.Object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	if old := s.pools[o.GetName()]; old != nil {
		old.until = time.Now()
		s.past = append(s.past, old)
		delete(s.pools, o.GetName())
	}
	if e.Type == watch.Deleted {
		return
	}
	life := &poolLife{}
	list, _, _ := unstructured.NestedStringSlice(o.Object, "spec", "addresses")
	for _, text := range list {
		if span, ok := spanOf(text); ok {
			life.spans = append(life.spans, span)
		}
	}
	s.pools[o.GetName()] = life
}

// spanOf reads an entry of a pool; what is malformed holds no address.
func spanOf(text string) (span addressSpan, ok bool) {
	if start, end, isRange := strings.Cut(text, "-"); isRange {
		var err1, err2 error
		span.from, err1 = netip.ParseAddr(strings.TrimSpace(start))
		span.to, err2 = netip.ParseAddr(strings.TrimSpace(end))
		return span, err1 == nil && err2 == nil && span.from.BitLen() == span.to.BitLen()
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return span, false
	}
	return addressSpan{p.Masked().Addr(), lastOf(p.Masked())}, true
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for i := p.Bits(); i < len(raw)*8; i++ {
		raw[i/8] |= 1 << (7 - i%8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

func (l *poolLife) has(a netip.Addr) bool {
	return slices.ContainsFunc(l.spans, func(s addressSpan) bool {
		return a.BitLen() == s.from.BitLen() && !a.Less(s.from) && !s.to.Less(a)
	})
}

// held says whether a pool has an address.
func (s *sound) held(a netip.Addr) bool {
	for _, l := range s.pools {
		if l.has(a) {
			return true
		}
	}
	return false
}

// look goes through everything that may pass, and complains about what did not.
func (s *sound) look(now time.Time) {
	s.judgeGains(now)
	current := map[string]time.Duration{}
	names := slices.Sorted(maps.Keys(s.services))
	at := map[netip.Addr][]string{}
	for _, name := range names {
		h := s.services[name]
		for _, addr := range h.addrs {
			if !s.held(addr) {
				current[fmt.Sprintf("Service %s has %s, which no pool holds", name, addr)] = outsideLimit
			}
			for _, other := range at[addr] {
				if !h.mayShare(s.services[other]) {
					current[fmt.Sprintf("Services %s and %s both have %s, which they may not share", other, name, addr)] = conflictLimit
				}
			}
			at[addr] = append(at[addr], name)
		}
	}
	maps.DeleteFunc(s.since, func(text string, _ time.Time) bool { return current[text] == 0 })
	for text, limit := range current {
		if _, known := s.since[text]; !known {
			s.since[text] = now
		}
		if now.Sub(s.since[text]) > limit {
			s.say("%s, for more than %s", text, limit)
		}
	}
}

// judgeGains looks whether what was given was a pool's. It waits a moment for the
// watch of the pools, which may be behind.
func (s *sound) judgeGains(now time.Time) {
	for len(s.gains) > 0 && now.Sub(s.gains[0].at) > poolLag {
		g := s.gains[0]
		s.gains = s.gains[1:]
		lately := func(l *poolLife) bool { return l.has(g.addr) && g.at.Sub(l.until) < poolMemory }
		if !s.held(g.addr) && !slices.ContainsFunc(s.past, lately) {
			s.say("%s was given to Service %s, but no pool holds it", g.addr, g.service)
		}
	}
	s.past = slices.DeleteFunc(s.past, func(l *poolLife) bool { return now.Sub(l.until) > 2*poolMemory })
}
