package manager

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

func TestCacheIsLimitedToTheNamespaceButForServices(t *testing.T) {
	ofCaller := func(obj any) (any, error) { return obj, nil }
	options := cacheOptions("lb", map[client.Object]cache.ByObject{
		&corev1.Service{}: {Namespaces: map[string]cache.Config{"one": {}}},
		&corev1.Node{}:    {Transform: ofCaller},
	})
	if _, ok := options.DefaultNamespaces["lb"]; !ok || len(options.DefaultNamespaces) != 1 {
		t.Errorf("by default namespaces %v are cached, want lb", options.DefaultNamespaces)
	}
	services, nodes := 0, 0
	for obj, by := range options.ByObject {
		switch obj.(type) {
		case *corev1.Service:
			services++
			if _, ok := by.Namespaces["one"]; !ok {
				t.Errorf("Services of %v are cached, want what the caller says", by.Namespaces)
			}
		case *corev1.Node:
			nodes++
			if by.Transform == nil {
				t.Error("the caller's transform of Nodes is lost")
			}
		}
	}
	if services != 1 || nodes != 1 {
		t.Errorf("%d entries for Services and %d for Nodes, want one each", services, nodes)
	}
}
