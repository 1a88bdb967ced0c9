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
// namespace only, but for Services and what belongs to them. What of an object
// is kept, only its reader knows.
func cacheOptions(namespace string, more map[client.Object]cache.ByObject) cache.Options {
	everywhere := map[string]cache.Config{cache.AllNamespaces: {}}
	byObject := map[client.Object]cache.ByObject{
		&corev1.Service{}:            {Namespaces: everywhere},
		&discoveryv1.EndpointSlice{}: {Namespaces: everywhere},
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
