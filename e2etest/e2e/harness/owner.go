//go:build lab

package harness

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/heraldlb/herald/e2etest/herald"
)

// L2Status is what a ServiceL2Status says.
type L2Status struct {
	Object string
	// Version changes with every write.
	Version    string
	Node       string
	Interfaces []string
}

// L2StatusesOf returns all ServiceL2Status objects about a Service.
func (h *Test) L2StatusesOf(service string) ([]L2Status, error) {
	list, err := h.Dynamic.Resource(L2Statuses).Namespace(herald.Namespace).List(h.Ctx, metav1.ListOptions{
		LabelSelector: "metallb.io/service-name=" + service + ",metallb.io/service-namespace=" + h.Namespace,
	})
	if err != nil {
		return nil, err
	}
	var out []L2Status
	for _, o := range list.Items {
		s := L2Status{Object: o.GetName(), Version: o.GetResourceVersion()}
		s.Node, _, _ = unstructured.NestedString(o.Object, "status", "node")
		interfaces, _, _ := unstructured.NestedSlice(o.Object, "status", "interfaces")
		for _, i := range interfaces {
			if m, ok := i.(map[string]any); ok {
				s.Interfaces = append(s.Interfaces, fmt.Sprint(m["name"]))
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// OwnerOf returns the node that announces a Service, by the one ServiceL2Status
// that there may be; "" if there is none.
func (h *Test) OwnerOf(service string) (string, error) {
	statuses, err := h.L2StatusesOf(service)
	switch {
	case err != nil || len(statuses) == 0:
		return "", err
	case len(statuses) > 1:
		return "", fmt.Errorf("service %s has %d ServiceL2Status objects, want one: %+v", service, len(statuses), statuses)
	}
	return statuses[0].Node, nil
}

// WaitOwner waits until some node announces a Service and says so everywhere:
// its ServiceL2Status and its condition agree. It returns the node.
func (h *Test) WaitOwner(service string) (node string) {
	h.Helper()
	h.Eventually(Patience, func() (err error) {
		node, err = h.announcer(service)
		return err
	})
	return node
}

// WaitOwnerIs waits until one node of a choice announces a Service, returning which.
func (h *Test) WaitOwnerIs(service string, choice ...string) (node string) {
	h.Helper()
	h.Eventually(Patience, func() (err error) {
		if node, err = h.announcer(service); err != nil {
			return err
		}
		for _, c := range choice {
			if node == c {
				return nil
			}
		}
		return fmt.Errorf("service %s is announced by %s, want one of %v", service, node, choice)
	})
	return node
}

// WaitNoOwner waits until nobody announces a Service.
func (h *Test) WaitNoOwner(service string) {
	h.Helper()
	h.Eventually(Patience, func() error {
		statuses, err := h.L2StatusesOf(service)
		if err == nil && len(statuses) > 0 {
			err = fmt.Errorf("service %s is still announced: %+v", service, statuses)
		}
		return err
	})
}

// announcer is the node on which the status object and the condition agree.
func (h *Test) announcer(service string) (string, error) {
	node, err := h.OwnerOf(service)
	if err != nil {
		return "", err
	}
	c, err := h.Condition(service, Announced)
	if err != nil {
		return "", err
	}
	want := AnnouncedFrom(node)
	if node == "" || c.Status != metav1.ConditionTrue || c.Message != want {
		return "", fmt.Errorf("service %s: the ServiceL2Status names the node %q; %s", service, node, h.conditions(service))
	}
	return node, nil
}

// AnnouncedFrom is the text of the event and of the condition of a Service that
// a node announces over layer 2. It is MetalLB's, which people's scripts read.
func AnnouncedFrom(node string) string {
	return fmt.Sprintf("announcing from node %q with protocol %q", node, "layer2")
}

var announcedPattern = regexp.MustCompile(`^announcing from node "([^"]*)" with protocol "layer2"$`)

// LastAnnouncer returns the node that the newest nodeAssigned event of a Service
// names, "" if there is none.
func (h *Test) LastAnnouncer(service string) (string, error) {
	events, err := h.ServiceEvents(service, "nodeAssigned")
	if err != nil || len(events) == 0 {
		return "", err
	}
	note := events[len(events)-1].Note
	m := announcedPattern.FindStringSubmatch(note)
	if m == nil {
		return "", fmt.Errorf("service %s: an event nodeAssigned says %q", service, note)
	}
	return m[1], nil
}

// Interfaces waits until the ServiceL2Status of a Service names exactly these
// interfaces; none means all.
func (h *Test) Interfaces(service string, want ...string) {
	h.Helper()
	h.Eventually(Patience, func() error {
		statuses, err := h.L2StatusesOf(service)
		if err != nil || len(statuses) != 1 {
			return fmt.Errorf("service %s: statuses %+v, want one: %w", service, statuses, err)
		}
		if diff := cmp.Diff(want, statuses[0].Interfaces); diff != "" {
			return fmt.Errorf("service %s: interfaces (-want +got):\n%s", service, diff)
		}
		return nil
	})
}

// InterfaceMAC is the MAC of a node's interface, as the lab planned it.
func (h *Test) InterfaceMAC(node, iface string) string {
	h.Helper()
	n, err := h.State.Layout.Node(node)
	h.Must(err)
	for _, i := range n.Interfaces {
		if i.Name == iface {
			return strings.ToLower(i.MAC)
		}
	}
	h.Fatalf("%s has no interface %s", node, iface)
	return ""
}

// NodeAddr is a node's own IPv4 address on the first segment.
func (h *Test) NodeAddr(node string) netip.Addr {
	h.Helper()
	n, err := h.State.Layout.Node(node)
	h.Must(err)
	return n.Interfaces[0].Addr(false)
}
