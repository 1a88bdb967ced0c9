package service_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heraldlb/herald/internal/service"
)

func endpoint(node string, ready, serving *bool) discoveryv1.Endpoint {
	ep := discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: ready, Serving: serving}}
	if node != "" {
		ep.NodeName = &node
	}
	return ep
}

func slice(endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{Endpoints: endpoints}
}

func TestMergeEndpoints(t *testing.T) {
	yes, no := new(true), new(false)
	for _, tc := range []struct {
		name   string
		slices []*discoveryv1.EndpointSlice
		want   service.Endpoints
	}{
		{"no slices", nil, service.Endpoints{}},
		{"ready", []*discoveryv1.EndpointSlice{slice(endpoint("a", yes, nil))},
			service.Endpoints{Any: true, Nodes: map[string]int{"a": 1}}},
		{"unknown readiness counts as ready", []*discoveryv1.EndpointSlice{slice(endpoint("a", nil, no))},
			service.Endpoints{Any: true, Nodes: map[string]int{"a": 1}}},
		{"ready wins over not serving", []*discoveryv1.EndpointSlice{slice(endpoint("a", yes, no))},
			service.Endpoints{Any: true, Nodes: map[string]int{"a": 1}}},
		{"terminating but serving", []*discoveryv1.EndpointSlice{slice(endpoint("a", no, yes))},
			service.Endpoints{Any: true, Nodes: map[string]int{"a": 1}}},
		{"not ready", []*discoveryv1.EndpointSlice{slice(endpoint("a", no, nil), endpoint("a", no, no))},
			service.Endpoints{}},
		{"without a node it counts for the cluster only", []*discoveryv1.EndpointSlice{slice(endpoint("", yes, nil))},
			service.Endpoints{Any: true}},
		{"several slices add up", []*discoveryv1.EndpointSlice{
			slice(endpoint("a", yes, nil), endpoint("b", no, nil)), slice(endpoint("a", nil, nil), endpoint("c", yes, nil))},
			service.Endpoints{Any: true, Nodes: map[string]int{"a": 2, "c": 1}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, service.MergeEndpoints(tc.slices)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
