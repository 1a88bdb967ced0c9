package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/heraldlb/herald/internal/service"
)

// Service is a Service with its endpoints. Both are immutable.
type Service struct {
	*service.Service
	Endpoints service.Endpoints
}

// Holds returns the addresses that tie the Service to others. A Service whose
// status cannot be read is tied to nobody, so that it harms only itself.
func (s Service) Holds() []netip.Addr {
	if s.BadIngress {
		return nil
	}
	return s.Addresses
}

// Group is a sharing group: Services that hold addresses in common, directly
// or through others, oldest first.
type Group []Service

// NewGroup returns the group of the given Services, whose order does not
// matter. It takes over the slice.
func NewGroup(services []Service) Group {
	slices.SortFunc(services, func(a, b Service) int { return older(a.Service, b.Service) })
	return services
}

// older orders Services by age; the name decides between twins.
func older(a, b *service.Service) int {
	return cmp.Or(
		a.Created.Compare(b.Created),
		cmp.Compare(a.Key.Namespace, b.Key.Namespace),
		cmp.Compare(a.Key.Name, b.Key.Name),
	)
}

// Older tells whether a is older than b.
func Older(a, b *service.Service) bool { return older(a, b) < 0 }

// Groups splits Services into their sharing groups. Neither the order of the
// input nor that of the result has a meaning.
func Groups(services []Service) []Group {
	parent := make([]int, len(services))
	for i := range parent {
		parent[i] = i
	}
	root := func(i int) int {
		for parent[i] != i {
			parent[i] = parent[parent[i]]
			i = parent[i]
		}
		return i
	}
	first := make(map[netip.Addr]int, len(services))
	for i, s := range services {
		for _, a := range s.Holds() {
			if j, ok := first[a]; ok {
				parent[root(i)] = root(j)
			} else {
				first[a] = i
			}
		}
	}
	sets := make(map[int][]Service, len(services))
	for i, s := range services {
		r := root(i)
		sets[r] = append(sets[r], s)
	}
	groups := make([]Group, 0, len(sets))
	for _, set := range sets {
		groups = append(groups, NewGroup(set))
	}
	return groups
}
