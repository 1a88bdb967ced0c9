package config

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// wellKnown are the names of the registry "BGP Well-known Communities" of IANA.
// A Community object that defines one of them otherwise wins.
var wellKnown = map[string]Community{
	"graceful-shutdown":   {Fields: [3]uint32{65535, 0}},     // RFC 8326
	"accept-own":          {Fields: [3]uint32{65535, 1}},     // RFC 7611
	"llgr-stale":          {Fields: [3]uint32{65535, 6}},     // RFC 9494
	"no-llgr":             {Fields: [3]uint32{65535, 7}},     // RFC 9494
	"blackhole":           {Fields: [3]uint32{65535, 666}},   // RFC 7999
	"no-export":           {Fields: [3]uint32{65535, 65281}}, // RFC 1997
	"no-advertise":        {Fields: [3]uint32{65535, 65282}}, // RFC 1997
	"no-export-subconfed": {Fields: [3]uint32{65535, 65283}}, // RFC 1997
	"no-peer":             {Fields: [3]uint32{65535, 65284}}, // RFC 3765
}

// UnknownCommunityError says that a text is a name that nobody defines. Unlike
// with a malformed literal, that can change: a Community object may define it.
type UnknownCommunityError struct{ Name string }

func (e *UnknownCommunityError) Error() string {
	return fmt.Sprintf("unknown community %q: expected a name that a Community object defines, a well-known name such as no-export, or a literal such as 64512:100", e.Name)
}

// Community resolves what a user wrote for a community: a name that a Community
// object defines or, if none does, a literal or a well-known name. The error is
// a sentence for users, an *UnknownCommunityError where a name is not defined.
func (s *Snapshot) Community(text string) (Community, error) {
	return resolveCommunity(s.Communities, text)
}

func resolveCommunity(names map[string]Community, text string) (Community, error) {
	// A name wins over a literal of the same spelling.
	if value, known := names[text]; known {
		return value, nil
	}
	if value, known := wellKnown[text]; known {
		return value, nil
	}
	if !strings.Contains(text, ":") {
		return Community{}, &UnknownCommunityError{Name: text}
	}
	value, err := parseCommunity(text)
	if err != nil {
		return Community{}, fmt.Errorf("%w, or the name of a Community", err)
	}
	return value, nil
}

// communities compiles the names that all Community objects define together. A
// name that is defined twice means what the older object says.
func (c *compiler) communities() map[string]Community {
	owner := map[string]string{}
	out := map[string]Community{}
	for _, o := range byAge(c.objects.Communities) {
		r := c.about("Community", o)
		for i := range o.Spec.Communities {
			alias := &o.Spec.Communities[i]
			field := fmt.Sprintf("spec.communities[%d]", i)
			value, known := wellKnown[alias.Value]
			if !known {
				var err error
				if value, err = parseCommunity(alias.Value); err != nil {
					r.errorf(field+".value", "%v", err)
					continue
				}
			}
			if first, dup := owner[alias.Name]; dup {
				r.errorf(field+".name", "duplicate definition of community %q, which Community %q defines already: expected each name once", alias.Name, first)
				continue
			}
			owner[alias.Name], out[alias.Name] = o.Name, value
		}
	}
	return out
}

// parseCommunity reads a literal community.
func parseCommunity(text string) (Community, error) {
	head, rest, _ := strings.Cut(text, ":")
	switch head {
	case "large":
		fields, err := numbers(text, rest, "large:64512:1:2", 32, 32, 32)
		return Community{Kind: LargeCommunity, Fields: fields}, err
	case "rt":
		return parseExtended(text, rest, "rt:64512:100", routeTarget)
	case "soo":
		return parseExtended(text, rest, "soo:64512:100", siteOfOrigin)
	case "ext":
		b, err := hex.DecodeString(rest)
		if err != nil || len(b) != 8 {
			return Community{}, fmt.Errorf("invalid community value %q: expected ext: and the 16 hexadecimal digits of an extended community", text)
		}
		return extended([8]byte(b)), nil
	}
	fields, err := numbers(text, text, "64512:100", 16, 16)
	return Community{Kind: StandardCommunity, Fields: fields}, err
}

// numbers reads as many numbers, with colons between them, as bits has, each of
// that many bits. On an error all of them are 0.
func numbers(text, list, format string, bits ...int) ([3]uint32, error) {
	parts := strings.Split(list, ":")
	if len(parts) != len(bits) {
		return [3]uint32{}, fmt.Errorf("invalid community value %q: expected community to be of format %s", text, format)
	}
	var out [3]uint32
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits[i])
		if err != nil {
			return [3]uint32{}, fmt.Errorf("invalid community value: invalid section %q of community %q: expected a number from 0 to %d", part, text, uint64(1)<<bits[i]-1)
		}
		out[i] = uint32(n)
	}
	return out, nil
}

// The types of extended communities that have a notation: what the value is
// made of (RFC 4360, sections 3.1 and 3.2; RFC 5668, section 2) and what it
// means (RFC 4360, sections 4 and 5).
const (
	twoOctetAS  = 0x00
	ipv4Address = 0x01
	fourOctetAS = 0x02

	routeTarget  = 0x02
	siteOfOrigin = 0x03
)

// parseExtended reads administrator:number. The administrator is an AS number
// or an IPv4 address; the shorter it is, the longer the number may be.
func parseExtended(text, list, format string, subtype byte) (Community, error) {
	administrator, number, ok := strings.Cut(list, ":")
	if !ok {
		return Community{}, fmt.Errorf("invalid community value %q: expected community to be of format %s", text, format)
	}
	if a, err := netip.ParseAddr(administrator); err == nil && a.Is4() {
		n, err := numbers(text, number, format, 16)
		if err != nil {
			return Community{}, err
		}
		b := a.As4()
		return extended([8]byte{ipv4Address, subtype, b[0], b[1], b[2], b[3], byte(n[0] >> 8), byte(n[0])}), nil
	}
	as, err := numbers(text, administrator, format, 32)
	if err != nil {
		return Community{}, err
	}
	bits := 16
	if as[0] <= 65535 {
		bits = 32
	}
	n, err := numbers(text, number, format, bits)
	if err != nil {
		return Community{}, err
	}
	if as[0] <= 65535 {
		return Community{Kind: ExtendedCommunity, Fields: [3]uint32{twoOctetAS<<24 | uint32(subtype)<<16 | as[0], n[0]}}, nil
	}
	return Community{Kind: ExtendedCommunity, Fields: [3]uint32{fourOctetAS<<24 | uint32(subtype)<<16 | as[0]>>16, as[0]<<16 | n[0]}}, nil
}

func extended(b [8]byte) Community {
	return Community{Kind: ExtendedCommunity, Fields: [3]uint32{
		uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]),
		uint32(b[4])<<24 | uint32(b[5])<<16 | uint32(b[6])<<8 | uint32(b[7]),
	}}
}

// extendedText writes an extended community so that parseCommunity reads the
// same again: by its notation if it has one, by its octets otherwise.
func extendedText(high, low uint32) string {
	var what string
	switch byte(high >> 16) {
	case routeTarget:
		what = "rt"
	case siteOfOrigin:
		what = "soo"
	}
	value := uint64(high&0xffff)<<32 | uint64(low)
	switch kind := byte(high >> 24); {
	case what == "":
	case kind == twoOctetAS:
		return fmt.Sprintf("%s:%d:%d", what, value>>32, low)
	// A short AS number in the long form would be read as the short form.
	case kind == fourOctetAS && value>>16 > 65535:
		return fmt.Sprintf("%s:%d:%d", what, value>>16, uint16(low))
	case kind == ipv4Address:
		a := netip.AddrFrom4([4]byte{byte(value >> 40), byte(value >> 32), byte(value >> 24), byte(value >> 16)})
		return fmt.Sprintf("%s:%s:%d", what, a, uint16(low))
	}
	return fmt.Sprintf("ext:%08x%08x", high, low)
}
