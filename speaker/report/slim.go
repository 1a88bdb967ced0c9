package report

import (
	"sync"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1beta1"
)

// slimStatuses returns a function that keeps of a ServiceL2Status what decide.go
// and memory.go ask for. Those of a node say the same of it and of their owner,
// and share that.
func slimStatuses() func(any) (any, error) {
	type origin struct {
		node  string
		owner types.UID
	}
	var mu sync.Mutex
	from := map[origin]metav1.ObjectMeta{}
	return func(obj any) (any, error) {
		s, ok := obj.(*v1beta1.ServiceL2Status)
		if !ok {
			return obj, nil
		}
		slim := &v1beta1.ServiceL2Status{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: shared(s.Namespace), Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
				DeletionTimestamp: s.DeletionTimestamp, Labels: s.Labels, OwnerReferences: s.OwnerReferences,
			},
			Status: v1beta1.ServiceL2StatusStatus{
				Node: shared(s.Status.Node), ServiceName: s.Status.ServiceName, ServiceNamespace: shared(s.Status.ServiceNamespace),
			},
		}
		for _, i := range s.Status.Interfaces {
			slim.Status.Interfaces = append(slim.Status.Interfaces, v1beta1.InterfaceInfo{Name: shared(i.Name)})
		}
		if s.Status.ServiceName == "" || len(s.OwnerReferences) != 1 {
			return slim, nil // until the status is written, the labels name the Service
		}
		mu.Lock()
		defer mu.Unlock()
		o := origin{s.Labels[labelNode], s.OwnerReferences[0].UID}
		if _, known := from[o]; !known {
			from[o] = metav1.ObjectMeta{Labels: map[string]string{labelNode: o.node}, OwnerReferences: s.OwnerReferences}
		}
		slim.Labels, slim.OwnerReferences = from[o].Labels, from[o].OwnerReferences
		return slim, nil
	}
}

// shared returns the one copy of a text that many objects hold.
func shared(text string) string { return unique.Make(text).Value() }
