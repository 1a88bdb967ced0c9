//go:build lab

package harness

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/util/retry"
)

// Ports of the echo server's pods.
const (
	HTTPPort = 8080
	EchoPort = 9000
)

// A ServiceOption changes a Service before it is created.
type ServiceOption func(*corev1.Service)

// Family is a kind of Service by its address families.
type Family struct {
	Name   string
	Option ServiceOption
	// Addresses is how many it gets.
	Addresses int
}

// Families are IPv4, IPv6 and dual stack, in this order.
func Families() []Family {
	return []Family{{"IPv4", V4, 1}, {"IPv6", V6, 1}, {"DualStack", Dual, 2}}
}

// From asks for a pool by annotation.
func From(pool string) ServiceOption { return Annotate("metallb.io/address-pool", pool) }

// Sharing allows that the address is shared, under a key.
func Sharing(key string) ServiceOption { return Annotate("metallb.io/allow-shared-ip", key) }

// At asks for addresses.
func At(addrs ...netip.Addr) ServiceOption {
	var list []string
	for _, a := range addrs {
		list = append(list, a.String())
	}
	return Annotate("metallb.io/loadBalancerIPs", strings.Join(list, ","))
}

// Annotate sets an annotation.
func Annotate(key, value string) ServiceOption {
	return func(s *corev1.Service) { metav1.SetMetaDataAnnotation(&s.ObjectMeta, key, value) }
}

// Labelled sets a label.
func Labelled(key, value string) ServiceOption {
	return func(s *corev1.Service) { metav1.SetMetaDataLabel(&s.ObjectMeta, key, value) }
}

// To selects the pods of another deployment than the one with the Service's name.
func To(app string) ServiceOption {
	return func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} }
}

// V4 asks for IPv4 only. This and the next three choose the address families; the
// default is the cluster's, IPv4.
func V4(s *corev1.Service) { families(s, corev1.IPFamilyPolicySingleStack, corev1.IPv4Protocol) }

// V6 asks for IPv6 only.
func V6(s *corev1.Service) { families(s, corev1.IPFamilyPolicySingleStack, corev1.IPv6Protocol) }

// Dual requires both families, IPv4 first.
func Dual(s *corev1.Service) {
	families(s, corev1.IPFamilyPolicyRequireDualStack, corev1.IPv4Protocol, corev1.IPv6Protocol)
}

// PreferDual prefers both families.
func PreferDual(s *corev1.Service) { families(s, corev1.IPFamilyPolicyPreferDualStack) }

func families(s *corev1.Service, policy corev1.IPFamilyPolicy, list ...corev1.IPFamily) {
	s.Spec.IPFamilyPolicy, s.Spec.IPFamilies = &policy, list
}

// Local sets externalTrafficPolicy Local.
func Local(s *corev1.Service) {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

// Class sets the load balancer class.
func Class(class string) ServiceOption {
	return func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }
}

// Ports replaces the ports, which are written like "80/TCP:8080": what the
// Service offers, and the pods' port.
func Ports(ports ...string) ServiceOption {
	return func(s *corev1.Service) {
		s.Spec.Ports = nil
		for i, text := range ports {
			var port, target int32
			var protocol string
			if _, err := fmt.Sscanf(strings.NewReplacer("/", " ", ":", " ").Replace(text), "%d %s %d", &port, &protocol, &target); err != nil {
				panic("harness: a port is written like 80/TCP:8080, not " + text)
			}
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: port,
				Protocol: corev1.Protocol(protocol), TargetPort: intstr.FromInt32(target)})
		}
	}
}

// Service creates a LoadBalancer Service: port 80 to the HTTP port of the pods
// with the label app=NAME, unless the options say otherwise.
func (h *Test) Service(name string, options ...ServiceOption) {
	h.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: h.Namespace},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": name}},
	}
	Ports("80/TCP:8080")(s)
	for _, option := range options {
		option(s)
	}
	_, err := h.Kube.CoreV1().Services(h.Namespace).Create(h.Ctx, s, metav1.CreateOptions{})
	h.Must(err)
	// Its addresses must be free before the pool goes, which was made earlier.
	h.OnEnd("delete Service "+name, func(ctx context.Context) error {
		return ignoreNotFound(h.Kube.CoreV1().Services(h.Namespace).Delete(ctx, name, metav1.DeleteOptions{}))
	})
}

// UpdateService changes a Service.
func (h *Test) UpdateService(name string, change func(*corev1.Service)) {
	h.Helper()
	h.Must(retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		s, err := h.GetService(name)
		if err != nil {
			return err
		}
		change(s)
		_, err = h.Kube.CoreV1().Services(h.Namespace).Update(h.Ctx, s, metav1.UpdateOptions{})
		return err
	}))
}

// DeleteService deletes a Service.
func (h *Test) DeleteService(name string) {
	h.Helper()
	h.Must(h.Kube.CoreV1().Services(h.Namespace).Delete(h.Ctx, name, metav1.DeleteOptions{}))
}

// GetService reads a Service.
func (h *Test) GetService(name string) (*corev1.Service, error) {
	return h.Kube.CoreV1().Services(h.Namespace).Get(h.Ctx, name, metav1.GetOptions{})
}

// AddressesOf returns the addresses in a Service's status, in their order.
func (h *Test) AddressesOf(name string) ([]netip.Addr, error) {
	s, err := h.GetService(name)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, i := range s.Status.LoadBalancer.Ingress {
		a, err := netip.ParseAddr(i.IP)
		if err != nil {
			return nil, fmt.Errorf("service %s: status.loadBalancer.ingress: %w", name, err)
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// WaitAddresses waits until a Service has so many addresses and returns them.
func (h *Test) WaitAddresses(name string, n int) (addrs []netip.Addr) {
	h.Helper()
	h.Eventually(Patience, func() (err error) {
		if addrs, err = h.AddressesOf(name); err == nil && len(addrs) != n {
			err = fmt.Errorf("service %s has the addresses %v, want %d; %s", name, addrs, n, h.conditions(name))
		}
		return err
	})
	return addrs
}

// WaitAddress is WaitAddresses for a Service with one address.
func (h *Test) WaitAddress(name string) netip.Addr {
	h.Helper()
	return h.WaitAddresses(name, 1)[0]
}

// Types of the conditions that Herald sets on Services.
const (
	Assigned  = "heraldlb.io/Assigned"
	Announced = "heraldlb.io/Announced"
)

// Condition returns a condition of a Service, the zero one if it is not there.
func (h *Test) Condition(name, kind string) (metav1.Condition, error) {
	s, err := h.GetService(name)
	if err != nil {
		return metav1.Condition{}, err
	}
	if c := meta.FindStatusCondition(s.Status.Conditions, kind); c != nil {
		return *c, nil
	}
	return metav1.Condition{}, nil
}

// WaitCondition waits until a condition of a Service has a status and a reason,
// and returns it.
func (h *Test) WaitCondition(name, kind string, status metav1.ConditionStatus, reason string) (c metav1.Condition) {
	h.Helper()
	h.Eventually(Patience, func() (err error) {
		if c, err = h.Condition(name, kind); err == nil && (c.Status != status || c.Reason != reason) {
			err = fmt.Errorf("service %s: %s is %q because of %q (%s), want %q because of %q",
				name, kind, c.Status, c.Reason, c.Message, status, reason)
		}
		return err
	})
	return c
}

// conditions is one line about a Service's conditions.
func (h *Test) conditions(name string) string {
	s, err := h.GetService(name)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, c := range s.Status.Conditions {
		lines = append(lines, fmt.Sprintf("%s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return "conditions: " + strings.Join(lines, "; ")
}

// Event is what a test sees of an event.
type Event struct {
	Type, Reason, Note string
	At                 time.Time
}

// EventsOf returns the events about an object of the test's namespace, or of
// Herald's for Herald's kinds, the oldest first.
func (h *Test) EventsOf(namespace, kind, name string) ([]Event, error) {
	list, err := h.Kube.EventsV1().Events(namespace).List(h.Ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var events []Event
	for _, e := range list.Items {
		if e.Regarding.Kind == kind && e.Regarding.Name == name {
			events = append(events, Event{e.Type, e.Reason, e.Note, e.EventTime.Time})
		}
	}
	slices.SortFunc(events, func(a, b Event) int { return a.At.Compare(b.At) })
	return events, nil
}

// ServiceEvents returns the events about a Service with a reason, oldest first.
func (h *Test) ServiceEvents(name, reason string) ([]Event, error) {
	events, err := h.EventsOf(h.Namespace, "Service", name)
	return slices.DeleteFunc(events, func(e Event) bool { return e.Reason != reason }), err
}
