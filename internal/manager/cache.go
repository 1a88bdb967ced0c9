package manager

import (
	"maps"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// cacheOptions keeps in memory what Herald reads: everything from its own
// namespace only, but for Services and what belongs to them; and nothing of the
// bulky parts of Nodes.
func cacheOptions(namespace string, more map[client.Object]cache.ByObject) cache.Options {
	everywhere := map[string]cache.Config{cache.AllNamespaces: {}}
	byObject := map[client.Object]cache.ByObject{
		&corev1.Service{}:            {Namespaces: everywhere},
		&discoveryv1.EndpointSlice{}: {Namespaces: everywhere},
		&corev1.Node{}:               {Transform: slimNode},
	}
	for obj, by := range more {
		maps.DeleteFunc(byObject, func(known client.Object, _ cache.ByObject) bool {
			return reflect.TypeOf(known) == reflect.TypeOf(obj)
		})
		byObject[obj] = by
	}
	return cache.Options{
		ByObject:          byObject,
		DefaultNamespaces: map[string]cache.Config{namespace: {}},
		DefaultTransform:  cache.TransformStripManagedFields(),
	}
}

// slimNode drops what fills most of a Node's bytes. Herald never writes Nodes,
// so nothing of it can be lost.
func slimNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	node.ManagedFields = nil
	node.Status.Images = nil
	node.Status.VolumesInUse = nil
	node.Status.VolumesAttached = nil
	return node, nil
}
