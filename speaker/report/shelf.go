package report

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
)

// shelf holds the objects of one kind about one Service as they are there: as
// the cache showed them, or as they were written since. The zero value is empty.
type shelf[T metav1.Object] struct {
	objects []T
	// gone are the versions at which objects were deleted, by name.
	gone map[string]string
}

func (s *shelf[T]) index(name string) int {
	return slices.IndexFunc(s.objects, func(o T) bool { return o.GetName() == name })
}

// get returns the object of a name.
func (s *shelf[T]) get(name string) (object T, ok bool) {
	if i := s.index(name); i >= 0 {
		return s.objects[i], true
	}
	return object, false
}

// uid is the UID of the object of a name, "" if it is not known.
func (s *shelf[T]) uid(name string) types.UID {
	if o, ok := s.get(name); ok {
		return o.GetUID()
	}
	return ""
}

func (s *shelf[T]) put(o T) {
	if i := s.index(o.GetName()); i >= 0 {
		s.objects[i] = o
	} else {
		s.objects = append(s.objects, o)
	}
}

// seen takes an object from the cache and returns false if it says nothing new.
func (s *shelf[T]) seen(o T) bool {
	if have, ok := s.get(o.GetName()); ok && older(o.GetResourceVersion(), have.GetResourceVersion()) {
		return false
	}
	s.put(o)
	delete(s.gone, o.GetName())
	return true
}

// written takes an object that was written and returns false if somebody
// deleted it before this node knew.
func (s *shelf[T]) written(o T) bool {
	if older(o.GetResourceVersion(), s.gone[o.GetName()]) {
		return false
	}
	s.put(o)
	return true
}

// lost takes an object that somebody deleted.
func (s *shelf[T]) lost(o T) {
	s.forget(o.GetName(), s.uid(o.GetName()))
	if s.gone == nil {
		s.gone = map[string]string{}
	}
	s.gone[o.GetName()] = o.GetResourceVersion()
}

// forget drops the object that has the name and the UID.
func (s *shelf[T]) forget(name string, uid types.UID) {
	if i := s.index(name); i >= 0 && s.objects[i].GetUID() == uid {
		s.objects = slices.Delete(s.objects, i, i+1)
	}
}

// older tells whether version a of an object comes before b.
func older(a, b string) bool {
	order, err := resourceversion.CompareResourceVersion(a, b)
	return err == nil && order < 0
}
