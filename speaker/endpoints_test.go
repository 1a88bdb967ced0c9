package main

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"pgregory.net/rapid"

	"github.com/heraldlb/herald/internal/service"
)

// drawSlice draws one of few slices of few Services.
func drawSlice(t *rapid.T) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{
		Namespace: "default",
		Name:      fmt.Sprintf("slice-%d", rapid.IntRange(0, 3).Draw(t, "slice")),
		Labels:    map[string]string{discoveryv1.LabelServiceName: rapid.SampledFrom([]string{"web", "dns"}).Draw(t, "service")},
	}}
	for range rapid.IntRange(0, 4).Draw(t, "endpoints") {
		ready, serving := rapid.Bool().Draw(t, "ready"), rapid.Bool().Draw(t, "serving")
		e := discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving}}
		if node := rapid.SampledFrom([]string{"", "node-a", "node-b"}).Draw(t, "node"); node != "" {
			e.NodeName = &node
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return s
}

// What is kept of the slices, after any history, answers the same as all of
// the slices that are there.
func TestEndpointsLoseNothingThatDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := newEndpoints()
		there := map[sliceKey]*discoveryv1.EndpointSlice{}
		for range rapid.IntRange(1, 20).Draw(t, "events") {
			full := drawSlice(t)
			key := sliceKey{full.Namespace, full.Name}
			before := map[string]service.Endpoints{"web": e.of(keyOf("web"), true), "dns": e.of(keyOf("dns"), true)}
			touched := map[string]bool{}
			touch := func(k service.Key) { touched[k.Name] = true }
			if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
				delete(there, key)
				e.set(key, nil, touch)
			} else {
				kept, err := slimSlices()(full)
				if err != nil {
					t.Fatal(err)
				}
				there[key] = full
				e.set(key, kept.(*slice), touch)
			}
			for name, was := range before {
				now := e.of(keyOf(name), true)
				if !touched[name] && !cmp.Equal(was, now) {
					t.Fatalf("%s changed and was not touched", name)
				}
				checkEndpoints(t, name, there, now)
				if got := e.of(keyOf(name), false); got.Any != now.Any || got.Nodes != nil {
					t.Fatalf("%s: policy Cluster gets %+v", name, got)
				}
			}
		}
	})
}

func keyOf(name string) service.Key { return service.Key{Namespace: "default", Name: name} }

func checkEndpoints(t *rapid.T, name string, there map[sliceKey]*discoveryv1.EndpointSlice, got service.Endpoints) {
	var own []*discoveryv1.EndpointSlice
	for _, s := range there {
		if s.Labels[discoveryv1.LabelServiceName] == name {
			own = append(own, s)
		}
	}
	want := service.MergeEndpoints(own)
	nodes := func(e service.Endpoints) (names []string) {
		for n := range e.Nodes {
			names = append(names, n)
		}
		slices.Sort(names)
		return names
	}
	if got.Any != want.Any || !slices.Equal(nodes(got), nodes(want)) {
		t.Fatalf("%s: got %+v, want %+v", name, got, want)
	}
}

// The cache asks an object for its name, its version, and nothing that fails.
func TestCacheCanHoldASlice(t *testing.T) {
	full := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", ResourceVersion: "7"}}
	kept := slim(t, full)
	key, err := toolscache.DeletionHandlingMetaNamespaceKeyFunc(kept)
	if err != nil || key != "default/web-1" {
		t.Errorf("key %q, error %v", key, err)
	}
	o, err := meta.Accessor(kept)
	if err != nil {
		t.Fatal(err)
	}
	if o.GetResourceVersion() != "7" || o.GetLabels() != nil || o.GetDeletionTimestamp() != nil {
		t.Errorf("the cache sees version %q, labels %v", o.GetResourceVersion(), o.GetLabels())
	}
}
