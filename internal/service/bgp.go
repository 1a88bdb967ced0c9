package service

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/heraldlb/herald/internal/reason"
)

// The annotations that ask for BGP attributes. They are Herald's own, so they
// have no deprecated prefix.
const (
	// AnnotationBGPCommunities is a list with commas: literals or names, as in a
	// BGPAdvertisement.
	AnnotationBGPCommunities = "heraldlb.io/bgp-communities"
	AnnotationBGPLocalPref   = "heraldlb.io/bgp-local-pref"
	AnnotationBGPMED         = "heraldlb.io/bgp-med"
	AnnotationBGPPrepend     = "heraldlb.io/bgp-as-path-prepend"
)

const (
	// maxPrepend is the limit of asPathPrepend in a BGPAdvertisement.
	maxPrepend = 10
	// maxCommunities bounds what a Service adds to the attributes of a route,
	// which must fit into one message (RFC 4271, section 4).
	maxCommunities = 64
)

// readBGP reads the attributes that the user asks for. An annotation that
// cannot be understood asks for nothing and leaves a Problem. What the
// communities mean, only the configuration can tell.
func (s *Service) readBGP(annotations map[string]string) {
	s.BGP.Communities = s.communities(annotations[AnnotationBGPCommunities])
	s.BGP.LocalPref = number[uint32](s, annotations, AnnotationBGPLocalPref, 1<<32-1)
	s.BGP.MED = number[uint32](s, annotations, AnnotationBGPMED, 1<<32-1)
	s.BGP.Prepend = number[uint8](s, annotations, AnnotationBGPPrepend, maxPrepend)
}

// communities splits the list; each is in it once.
func (s *Service) communities(text string) []string {
	if text == "" {
		return nil
	}
	var out []string
	for part := range strings.SplitSeq(text, ",") {
		c := strings.TrimSpace(part)
		if c == "" {
			s.refuseBGP(AnnotationBGPCommunities, "%s: %q has an empty entry: expected communities or their names, joined by commas", AnnotationBGPCommunities, text)
			return nil
		}
		if slices.Contains(out, c) {
			continue
		}
		if len(out) == maxCommunities {
			s.refuseBGP(AnnotationBGPCommunities, "%s has too many entries: expected at most %d", AnnotationBGPCommunities, maxCommunities)
			return nil
		}
		out = append(out, c)
	}
	return out
}

// number reads a number from 0 to highest; nil if there is none.
func number[T uint8 | uint32](s *Service, annotations map[string]string, key string, highest uint64) *T {
	text := strings.TrimSpace(annotations[key])
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > highest {
		s.refuseBGP(key, "%s: %q cannot be read: expected a number from 0 to %d", key, text, highest)
		return nil
	}
	value := T(n)
	return &value
}

// refuseBGP has a reason of its own: the Service gets its address all the same.
func (s *Service) refuseBGP(field, format string, args ...any) {
	s.Problems = append(s.Problems, Problem{
		Field:   field,
		Reason:  reason.InvalidBGPAttribute,
		Message: fmt.Sprintf(format, args...),
	})
}
