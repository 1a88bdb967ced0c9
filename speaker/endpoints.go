package main

import (
	"maps"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/internal/service"
)

// sliceKey names an EndpointSlice.
type sliceKey struct{ namespace, name string }

// slice is what the cache keeps of an EndpointSlice, a tenth of its size: a
// cluster has more of them than of anything else that the speaker watches. To
// the cache it is an object with a name and a version.
type slice struct {
	metav1.Object // empty and shared by all, for what nobody asks
	key           sliceKey
	version       string
	service       string
	// any is true when an endpoint can serve; nodes are where, in order.
	any   bool
	nodes []place
}

// place is a node and how many endpoints it has.
type place struct {
	node  string
	ready int
}

func (s *slice) GetNamespace() string       { return s.key.namespace }
func (s *slice) GetName() string            { return s.key.name }
func (s *slice) GetResourceVersion() string { return s.version }

func (s *slice) of() service.Key { return service.Key{Namespace: s.key.namespace, Name: s.service} }

// slimSlices returns the function that the cache calls for every slice.
func slimSlices() func(any) (any, error) {
	empty := &metav1.ObjectMeta{}
	return func(obj any) (any, error) {
		s, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			return obj, nil
		}
		slim := &slice{
			Object:  empty,
			key:     sliceKey{shared(s.Namespace), s.Name},
			version: s.ResourceVersion,
			service: s.Labels[discoveryv1.LabelServiceName],
		}
		can := service.MergeEndpoints([]*discoveryv1.EndpointSlice{s})
		slim.any = can.Any
		for _, node := range slices.Sorted(maps.Keys(can.Nodes)) {
			slim.nodes = append(slim.nodes, place{shared(node), can.Nodes[node]})
		}
		return slim, nil
	}
}

// endpoints are the slices by Service.
type endpoints struct {
	slices    map[sliceKey]*slice
	byService map[service.Key][]*slice
}

func newEndpoints() *endpoints {
	return &endpoints{slices: map[sliceKey]*slice{}, byService: map[service.Key][]*slice{}}
}

// set takes a slice as it is now, nil if it is gone, and calls touch for each
// Service that it concerns or concerned.
func (e *endpoints) set(key sliceKey, now *slice, touch func(service.Key)) {
	if old := e.slices[key]; old != nil {
		rest := slices.DeleteFunc(e.byService[old.of()], func(s *slice) bool { return s == old })
		if len(rest) == 0 {
			delete(e.byService, old.of())
		} else {
			e.byService[old.of()] = rest
		}
		delete(e.slices, key)
		touch(old.of())
	}
	if now != nil {
		e.slices[key] = now
		e.byService[now.of()] = append(e.byService[now.of()], now)
		touch(now.of())
	}
}

// of returns who can serve a Service. Where, is asked for policy Local only.
func (e *endpoints) of(key service.Key, local bool) service.Endpoints {
	var all service.Endpoints
	for _, s := range e.byService[key] {
		all.Any = all.Any || s.any
		if !local {
			continue
		}
		for _, p := range s.nodes {
			if all.Nodes == nil {
				all.Nodes = map[string]int{}
			}
			all.Nodes[p.node] += p.ready
		}
	}
	return all
}
