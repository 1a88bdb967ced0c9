package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// family is 4 or 6.
type family uint8

const (
	ipv4 family = 4
	ipv6 family = 6
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// span is a range of addresses of one family, both ends included.
type span struct{ from, to netip.Addr }

func (s span) contains(a netip.Addr) bool {
	// Compare sorts every IPv4 address before every IPv6 one, so an address of
	// the other family is outside.
	return s.from.Compare(a) <= 0 && a.Compare(s.to) <= 0
}

func (s span) overlaps(o span) bool {
	return s.from.Compare(o.to) <= 0 && o.from.Compare(s.to) <= 0
}

// parseEntry reads one entry of spec.addresses.
func parseEntry(text string) (span, error) {
	start, end, isRange := strings.Cut(text, "-")
	if !isRange {
		p, err := parseCIDR(text)
		if err != nil {
			return span{}, err
		}
		return span{from: p.Addr(), to: Last(p)}, nil
	}
	from, err := parseAddr(strings.TrimSpace(start))
	if err != nil {
		return span{}, fmt.Errorf("invalid range %q: its start %q is not an IP address: expected two addresses of one family, such as 192.168.9.1-192.168.9.5", text, strings.TrimSpace(start))
	}
	to, err := parseAddr(strings.TrimSpace(end))
	if err != nil {
		return span{}, fmt.Errorf("invalid range %q: its end %q is not an IP address: expected two addresses of one family, such as 192.168.9.1-192.168.9.5", text, strings.TrimSpace(end))
	}
	if from.Is4() != to.Is4() {
		return span{}, fmt.Errorf("invalid range %q: it goes from IPv%d to IPv%d: expected two addresses of one family", text, familyOf(from), familyOf(to))
	}
	if to.Less(from) {
		return span{}, fmt.Errorf("invalid range %q: its start is after its end: expected the lower address first", text)
	}
	return span{from: from, to: to}, nil
}

var errNotAddress = errors.New("not an IP address without a zone")

// parseAddr reads an address without a zone. An IPv4 address in IPv6 clothes
// (::ffff:10.0.0.1) is the IPv4 address.
func parseAddr(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, errNotAddress
	}
	return a.Unmap(), nil
}

// parseCIDR reads a CIDR and clears its host bits. netip.ParsePrefix is not
// used since objects exist that it refuses: MetalLB accepts a prefix length
// with leading zeros, and IPv4-mapped prefixes, which mean IPv4.
func parseCIDR(text string) (netip.Prefix, error) {
	address, length, ok := strings.Cut(text, "/")
	if !ok {
		if a, err := parseAddr(text); err == nil {
			return netip.Prefix{}, fmt.Errorf("invalid CIDR %q: it has no prefix length: expected %s/%d for this one address", text, a, a.BitLen())
		}
		return netip.Prefix{}, fmt.Errorf("invalid CIDR %q: expected a CIDR such as 192.168.10.0/24, or a range such as 192.168.9.1-192.168.9.5", text)
	}
	a, err := netip.ParseAddr(address)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("invalid CIDR %q: %q is not an IP address: expected a CIDR such as 192.168.10.0/24", text, address)
	}
	bits, err := strconv.ParseUint(length, 10, 16)
	if err != nil || int(bits) > a.BitLen() {
		return netip.Prefix{}, fmt.Errorf("invalid CIDR %q: %q is not a prefix length: expected a number from 0 to %d", text, length, a.BitLen())
	}
	p := netip.PrefixFrom(a, int(bits)).Masked()
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p, nil
}

// Last returns the last address of a prefix.
func Last(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		fillHostBits(b[:], p.Bits())
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	fillHostBits(b[:], p.Bits())
	return netip.AddrFrom16(b)
}

func fillHostBits(b []byte, bits int) {
	for i := range b {
		switch {
		case bits >= 8:
			bits -= 8
		default:
			b[i] |= 0xff >> bits
			bits = 0
		}
	}
}

// Summarize returns the fewest CIDRs that hold exactly the addresses of one
// family between from and to, both included, in ascending order; none if from
// is after to.
func Summarize(from, to netip.Addr) []netip.Prefix {
	if !from.IsValid() || from.BitLen() != to.BitLen() || to.Less(from) {
		return nil
	}
	var out []netip.Prefix
	for {
		p := widest(from, to)
		out = append(out, p)
		end := Last(p)
		if !end.Less(to) {
			return out
		}
		from = end.Next()
	}
}

// widest is the shortest prefix that starts at from and does not pass to.
func widest(from, to netip.Addr) netip.Prefix {
	best := netip.PrefixFrom(from, from.BitLen())
	for bits := from.BitLen() - 1; bits >= 0; bits-- {
		p := netip.PrefixFrom(from, bits)
		if p.Masked().Addr() != from || to.Less(Last(p)) {
			break
		}
		best = p
	}
	return best
}
