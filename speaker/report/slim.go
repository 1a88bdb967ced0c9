package report

import (
	"sync"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api/v1beta1"
)

// slimStatuses returns a function that keeps of a ServiceL2Status what decide.go
// and memory.go ask for. All those of a node repeat the same words.
func slimStatuses() func(any) (any, error) {
	var mu sync.Mutex
	byNode := map[string]map[string]string{}
	return func(obj any) (any, error) {
		s, ok := obj.(*v1beta1.ServiceL2Status)
		if !ok {
			return obj, nil
		}
		slim := &v1beta1.ServiceL2Status{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: shared(s.Namespace), Name: s.Name, UID: s.UID, ResourceVersion: s.ResourceVersion,
				DeletionTimestamp: s.DeletionTimestamp, Labels: s.Labels,
			},
			Status: v1beta1.ServiceL2StatusStatus{
				Node: shared(s.Status.Node), ServiceName: s.Status.ServiceName, ServiceNamespace: shared(s.Status.ServiceNamespace),
			},
		}
		for _, o := range s.OwnerReferences {
			slim.OwnerReferences = append(slim.OwnerReferences, metav1.OwnerReference{UID: types.UID(shared(string(o.UID)))})
		}
		for _, i := range s.Status.Interfaces {
			slim.Status.Interfaces = append(slim.Status.Interfaces, v1beta1.InterfaceInfo{Name: shared(i.Name)})
		}
		if s.Status.ServiceName == "" {
			return slim, nil // until the status is written, the labels name the Service
		}
		mu.Lock()
		defer mu.Unlock()
		node := s.Labels[labelNode]
		if byNode[node] == nil {
			byNode[node] = map[string]string{labelNode: node}
		}
		slim.Labels = byNode[node]
		return slim, nil
	}
}

// shared returns the one copy of a text that many objects hold.
func shared(text string) string { return unique.Make(text).Value() }
