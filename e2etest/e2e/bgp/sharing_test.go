//go:build lab

package bgp

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// saysAnnounced waits until the condition of a Service has a status, and a message
// with some words.
func (s *stage) saysAnnounced(service string, status metav1.ConditionStatus, words string) {
	s.Helper()
	s.Eventually(harness.Patience, func() error {
		c, err := s.Condition(service, harness.Announced)
		if err == nil && (c.Status != status || !strings.Contains(c.Message, words)) {
			err = fmt.Errorf("service %s: %s is %s (%s): %q, want %s with %q", service, c.Type, c.Status, c.Reason, c.Message, status, words)
		}
		return err
	})
}

// Two Services share an address, their pods run on different nodes, and every node
// has the route. When one of them goes the other keeps it.
func TestTwoServicesShareAnAddress(t *testing.T) {
	for _, f := range harness.Families()[:2] {
		t.Run(f.Name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.advertise("a", "")
			s.Echo("first", 1, "node1")
			s.Echo("second", 1, "node2")
			s.Service("first", f.Option, harness.From(s.pool), harness.Sharing("us"), harness.Ports("7001/TCP:9000"))
			addr := s.WaitAddress("first")
			s.Service("second", f.Option, harness.At(addr), harness.Sharing("us"), harness.Ports("7002/TCP:9000"))
			addrs := s.WaitAddresses("second", 1)
			if addrs[0] != addr {
				t.Fatalf("service second has %s, want to share %s", addrs[0], addr)
			}
			s.routed(addrs, s.Nodes()...)
			served := func(name string, port uint16, node string) {
				t.Helper()
				s.Eventually(harness.Patience, func() error {
					a, err := s.Ask("tcp", addr, port)
					if err == nil && s.PodNodes(name)[a.Pod] != node {
						err = fmt.Errorf("port %d is answered by the pod %s, want that of service %s", port, a.Pod, name)
					}
					return err
				})
			}
			served("first", 7001, "node1")
			served("second", 7002, "node2")
			s.DeleteService("first")
			s.WaitBGPStatus("first", nil)
			s.routed(addrs, s.Nodes()...)
			served("second", 7002, "node2")
			s.DeleteService("second")
			s.routed(addrs)
		})
	}
}

// An address that a Service asks for by annotation is announced like any other.
func TestAddressByAnnotation(t *testing.T) {
	t.Parallel()
	s := open(t)
	s.advertise("a", "")
	s.Service("web", harness.Dual, harness.NoPods, harness.At(s.block.V4(5), s.block.V6(6)))
	s.Endpoint("web", s.Nodes()...)
	addrs := s.WaitAddresses("web", 2)
	if addrs[0] != s.block.V4(5) || addrs[1] != s.block.V6(6) {
		t.Errorf("the addresses are %v, want those asked for", addrs)
	}
	s.routed(addrs, s.Nodes()...)
}

// A pool may be written as a range or as a prefix.
func TestPoolsByRangeAndByPrefix(t *testing.T) {
	for _, tt := range []struct {
		name      string
		option    harness.ServiceOption
		n         int
		addresses func(harness.Block) string
	}{
		{"IPv4Range", harness.V4, 1, harness.Block.Range4},
		{"IPv4Prefix", harness.V4, 1, harness.Block.Prefix4},
		{"IPv6Range", harness.V6, 1, harness.Block.Range6},
		{"IPv6Prefix", harness.V6, 1, harness.Block.Prefix6},
		{"DualStackPrefix", harness.Dual, 2, func(b harness.Block) string { return b.Prefix4() + ", " + b.Prefix6() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := open(t)
			s.pool = s.Pool("p", "addresses: ["+tt.addresses(s.block)+"], autoAssign: false")
			s.advertise("a", "")
			s.Service("web", tt.option, harness.NoPods, harness.From(s.pool))
			s.Endpoint("web", s.Nodes()...)
			s.routed(s.WaitAddresses("web", tt.n), s.Nodes()...)
		})
	}
}

// A route follows its Service: endpoints that come and go, the policy, the Service
// itself. No session is touched by any of it.
func TestRoutesFollowTheService(t *testing.T) {
	t.Parallel()
	s := open(t)
	check := s.untouched()
	s.advertise("a", "")
	s.Service("web", harness.Dual, harness.NoPods, harness.Local, harness.From(s.pool))
	s.addrs = s.WaitAddresses("web", 2)
	s.WaitCondition("web", harness.Announced, metav1.ConditionFalse, "NoEndpoints")
	s.routed(s.addrs)
	s.Endpoint("web", "node2")
	s.routed(s.addrs, "node2")
	s.Endpoint("web", "node3")
	s.routed(s.addrs, "node3")
	s.UpdateService("web", func(svc *corev1.Service) {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyCluster
	})
	s.routed(s.addrs, s.Nodes()...)
	_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "delete", "endpointslice", "web-0")
	s.Must(err)
	s.routed(s.addrs)
	s.Endpoint("web", "node1")
	s.routed(s.addrs, s.Nodes()...)
	s.UpdateService("web", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP })
	s.routed(s.addrs)
	s.DeleteService("web")
	for range 3 {
		s.web("again")
		s.routed(s.WaitAddresses("again", 2), s.Nodes()...)
		s.DeleteService("again")
		s.routed(s.addrs)
	}
	check()
}

// A node without a network, and one that is excluded by label, withdraw their
// routes; the other nodes and all sessions stay.
func TestNodeWithoutNetworkAndExcludedNode(t *testing.T) {
	s := stageFor(t, "")
	s.routed(s.addrs, s.Nodes()...)
	check := s.untouched()
	s.SetNetworkUnavailable("node2", true)
	s.routed(s.addrs, "node1", "node3")
	s.LabelNode("node3", harness.ExcludeLabel, "")
	s.routed(s.addrs, "node1")
	s.WaitBGPStatus("web", map[string][]string{"node1": {shared4, shared6}})
	s.SetNetworkUnavailable("node2", false)
	s.routed(s.addrs, "node1", "node2")
	s.UnlabelNode("node3", harness.ExcludeLabel)
	s.routed(s.addrs, s.Nodes()...)
	check()
}
