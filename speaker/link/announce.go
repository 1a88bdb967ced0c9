package link

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/heraldlb/herald/speaker/observed"
)

// An Exclude holds the patterns of interfaces that must not announce. The zero
// value excludes nothing.
type Exclude struct {
	patterns []*regexp.Regexp
}

// ErrUnreadable is the error of a file of patterns of which nothing can be used.
var ErrUnreadable = errors.New("the interfaces to exclude cannot be read")

// ParseExclude reads the file of the metallb-excludel2 ConfigMap: regular
// expressions, each searched anywhere in an interface's name. A pattern that
// is wrong harms only itself: the Exclude holds the others, and the error names
// every wrong one. Only ErrUnreadable means that there is no Exclude at all.
func ParseExclude(file []byte) (Exclude, error) {
	var content struct {
		Patterns []string `json:"announcedInterfacesToExclude"`
	}
	if err := yaml.UnmarshalStrict(file, &content); err != nil {
		return Exclude{}, fmt.Errorf("%w: want the key announcedInterfacesToExclude with a list of regular expressions: %w",
			ErrUnreadable, err)
	}
	var e Exclude
	var errs []error
	for i, pattern := range content.Patterns {
		re, err := regexp.Compile(pattern)
		if err != nil {
			errs = append(errs, fmt.Errorf("announcedInterfacesToExclude[%d]: %q is not a regular expression: %w", i, pattern, err))
			continue
		}
		e.patterns = append(e.patterns, re)
	}
	return e, errors.Join(errs...)
}

// Matches tells whether an interface is excluded.
func (e Exclude) Matches(name string) bool {
	return slices.ContainsFunc(e.patterns, func(re *regexp.Regexp) bool { return re.MatchString(name) })
}

// Announcing returns the links that may announce addresses: not a loopback,
// not one without ARP, not part of another interface, not excluded. A member
// of a VRF stays an interface of its own, so it may.
func Announcing(links observed.Links, exclude Exclude) observed.Links {
	var may observed.Links
	for _, l := range links {
		enslaved := l.Master != 0 && l.MasterKind != "vrf"
		if l.Loopback || l.NoARP || enslaved || l.Kind == "vrf" || exclude.Matches(l.Name) {
			continue
		}
		may = append(may, l)
	}
	return may
}

// Interfaces tells of links what the other members need to know, in name order.
func Interfaces(links observed.Links) []observed.Interface {
	all := make([]observed.Interface, 0, len(links))
	for _, l := range links {
		all = append(all, observed.Interface{
			Name: l.Name, Prefixes: l.Prefixes, Carrier: l.Up && l.Carrier,
			IPv4: l.WhyNotIPv4() == "", IPv6: l.WhyNotIPv6() == "",
		})
	}
	slices.SortFunc(all, func(a, b observed.Interface) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return all
}
