//go:build lab

package layer2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/e2etest/e2e/harness"
)

// The status object names the node that the event names; while nothing changes
// nothing is written; it goes with the Service.
func TestServiceL2Status(t *testing.T) {
	s := stageFor(t, "")
	owner := s.WaitOwner("web")
	s.Eventually(harness.Patience, func() error {
		said, err := s.LastAnnouncer("web")
		if err == nil && said != owner {
			err = fmt.Errorf("the event names %q, the status object %q", said, owner)
		}
		return err
	})
	s.AnsweredBy(owner, s.addrs...)

	before, err := s.L2StatusesOf("web")
	s.Must(err)
	events, err := s.ServiceEvents("web", "nodeAssigned")
	s.Must(err)
	if len(events) != 1 {
		t.Errorf("the events nodeAssigned are %+v, want one", events)
	}
	s.Always(5*time.Second, func() error {
		now, err := s.L2StatusesOf("web")
		if diff := cmp.Diff(before, now); err == nil && diff != "" {
			err = fmt.Errorf("the status objects changed though nothing else did (-before +now):\n%s", diff)
		}
		return err
	})
	later, err := s.ServiceEvents("web", "nodeAssigned")
	s.Must(err)
	if len(later) != len(events) {
		t.Errorf("events nodeAssigned came though nothing changed: %+v", later[len(events):])
	}

	s.DeleteService("web")
	s.WaitNoOwner("web")
	s.Unanswered("eth0", time.Second, s.addrs...)
}

// Metrics have MetalLB's names; they tell of an address on the node that
// announces it only, and forget it with the Service.
func TestMetrics(t *testing.T) {
	t.Parallel()
	s := stageFor(t, "")
	owner := s.WaitOwner("web")
	s.AnsweredBy(owner, s.addrs...) // somebody asked

	gauges := map[string]float64{
		"metallb_allocator_addresses_total":             16,
		"metallb_allocator_ipv4_addresses_total":        8,
		"metallb_allocator_ipv6_addresses_total":        8,
		"metallb_allocator_addresses_in_use_total":      2,
		"metallb_allocator_ipv4_addresses_in_use_total": 1,
		"metallb_allocator_ipv6_addresses_in_use_total": 1,
		"metallb_allocator_services_allocated_total":    1,
	}
	s.Eventually(harness.Patience, func() error { return poolGauges(s, gauges) })

	service := s.Namespace + "/web"
	for _, addr := range s.addrs {
		s.Eventually(harness.Patience, func() error {
			m, err := s.SpeakerMetrics(owner)
			if err != nil {
				return err
			}
			v, err := m.Value("metallb_speaker_announced", "service", service, "protocol", "layer2", "node", owner, "ip", addr.String())
			if err == nil && v != 1 {
				err = fmt.Errorf("metallb_speaker_announced of %s is %v, want 1", addr, v)
			}
			for _, name := range layer2Counters {
				if v, missing := m.Value(name, "ip", addr.String()); err == nil && (missing != nil || v < 1) {
					err = fmt.Errorf("%s of %s is %v, want at least 1 (%v)", name, addr, v, missing)
				}
			}
			return err
		})
	}
	for _, node := range s.OtherNodes(owner) {
		m, err := s.SpeakerMetrics(node)
		s.Must(err)
		if found := aboutService(s, m); len(found) > 0 {
			t.Errorf("%s does not announce the Service, but its metrics tell of it: %+v", node, found)
		}
	}

	s.DeleteService("web")
	gauges["metallb_allocator_addresses_in_use_total"] = 0
	gauges["metallb_allocator_ipv4_addresses_in_use_total"] = 0
	gauges["metallb_allocator_ipv6_addresses_in_use_total"] = 0
	gauges["metallb_allocator_services_allocated_total"] = 0
	s.Eventually(harness.Patience, func() error { return poolGauges(s, gauges) })
	s.Eventually(harness.Patience, func() error {
		m, err := s.SpeakerMetrics(owner)
		if found := aboutService(s, m); err == nil && len(found) > 0 {
			err = fmt.Errorf("the Service is deleted, but metrics of %s tell of it: %+v", owner, found)
		}
		return err
	})
}

var layer2Counters = []string{"metallb_layer2_requests_received", "metallb_layer2_responses_sent", "metallb_layer2_gratuitous_sent"}

func poolGauges(s *stage, want map[string]float64) error {
	m, err := s.ControllerMetrics()
	if err != nil {
		return err
	}
	got := map[string]float64{}
	for name := range want {
		if got[name], err = m.Value(name, "pool", s.pool); err != nil {
			return err
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		return fmt.Errorf("gauges of the pool (-want +got):\n%s", diff)
	}
	return nil
}

// aboutService are the samples that tell of the stage's Service or its addresses.
func aboutService(s *stage, m harness.Samples) (found harness.Samples) {
	for _, x := range m {
		about := x.Labels["service"] == s.Namespace+"/web" ||
			slices.ContainsFunc(s.addrs, func(a netip.Addr) bool { return a.String() == x.Labels["ip"] })
		if about && strings.HasPrefix(x.Name, "metallb_") {
			found = append(found, x)
		}
	}
	return found
}

// Without a token that may read them there are no metrics.
func TestMetricsNeedAToken(t *testing.T) {
	t.Parallel()
	h := harness.New(t)
	url := fmt.Sprintf("https://%s:9120/metrics", h.NodeAddr("node1"))
	for _, header := range []string{"X-Nothing: 1", "Authorization: Bearer garbage"} {
		code, err := h.Exec(h.Ctx, "cp", "curl", "--silent", "--insecure", "--max-time", "5", "--output", "/dev/null",
			"--write-out", "%{http_code}", "--header", header, url)
		h.Must(err)
		if code != "401" {
			t.Errorf("a scrape with %q is answered with %s, want 401", header, code)
		}
	}
}
