//go:build lab

package bench

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/cache"

	"github.com/heraldlb/herald/e2etest/herald"
)

var l2Statuses = schema.GroupVersionResource{Group: "metallb.io", Version: "v1beta1", Resource: "servicel2statuses"}

// A ledger is what the API says about who announces which Service.
type ledger struct {
	mu sync.Mutex
	// statuses are the ServiceL2Status objects; conditions are the nodes that the
	// Services' conditions name.
	statuses   map[string]claim
	conditions map[string]string
	addresses  map[string]netip.Addr
}

// A claim is what one ServiceL2Status says.
type claim struct{ service, node string }

var announcedFrom = regexp.MustCompile(`^announcing from node "([^"]*)"`)

// keepLedger follows the API until the benchmark ends.
func (w *world) keepLedger() *ledger {
	w.Helper()
	l := &ledger{statuses: map[string]claim{}, conditions: map[string]string{}, addresses: map[string]netip.Addr{}}
	w.watchServices(l.service)
	client := w.dynamic.Resource(l2Statuses).Namespace(herald.Namespace)
	watchAll(w, &cache.ListWatch{ListWithContextFunc: listFunc(client.List), WatchFuncWithContext: client.Watch}, &unstructured.Unstructured{}, l.status)
	return l
}

func (l *ledger) service(svc *corev1.Service) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if addr, err := netip.ParseAddr(address(svc)); err == nil {
		l.addresses[svc.Name] = addr
	}
	delete(l.conditions, svc.Name)
	if c := condition(svc, announced); c != nil {
		if m := announcedFrom.FindStringSubmatch(c.Message); m != nil {
			l.conditions[svc.Name] = m[1]
		}
	}
}

func (l *ledger) status(o *unstructured.Unstructured, gone bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if gone {
		delete(l.statuses, o.GetName())
		return
	}
	node, _, _ := unstructured.NestedString(o.Object, "status", "node")
	service, _, _ := unstructured.NestedString(o.Object, "status", "serviceName")
	l.statuses[o.GetName()] = claim{service, node}
}

// served is how many Services have an address.
func (l *ledger) served() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.addresses)
}

// owners returns the node that announces each Service, or why the API does not
// say that yet: there must be one ServiceL2Status for each, and the condition must
// name the same node.
func (l *ledger) owners() (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	owners := make(map[string]string, len(l.statuses))
	agree := 0
	for _, c := range l.statuses {
		owners[c.service] = c.node
		if c.node != "" && l.conditions[c.service] == c.node {
			agree++
		}
	}
	if len(l.statuses) != many || len(owners) != many || agree != many {
		return nil, fmt.Errorf("%d ServiceL2Status objects on %d Services, %d of which have a condition that says the same", len(l.statuses), len(owners), agree)
	}
	return owners, nil
}

// addressesOf are the addresses of the Services that a node owns.
func (l *ledger) addressesOf(node string, owners map[string]string) map[netip.Addr]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := map[netip.Addr]bool{}
	for service, owner := range owners {
		if owner == node {
			own[l.addresses[service]] = true
		}
	}
	return own
}

// sameOwners is nil if the API names these owners.
func (l *ledger) sameOwners(want map[string]string) error {
	now, err := l.owners()
	if err != nil || maps.Equal(now, want) {
		return err
	}
	other := 0
	for service, node := range want {
		if now[service] != node {
			other++
		}
	}
	return fmt.Errorf("%d Services have another owner than before", other)
}
