package lab

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// RouterText is the configuration that a router has unless the options give
// another: it lets nodes connect from its ranges, and nobody else; it takes what
// they announce, spreads traffic over all of them, watches them by BFD, keeps
// their routes while they restart gracefully, and peers with the other routers of
// the topology. It is text for Router.Configure to change and give back.
func RouterText(o BGPOptions, r Router) string {
	if r.Kind == BIRD {
		return birdText(o, r)
	}
	return frrText(o, r)
}

// frrText is the configuration of an FRR router. Nodes dial in, so they are a
// peer group with listen ranges: bgpd learns each when it connects.
func frrText(o BGPOptions, r Router) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("frr defaults traditional")
	line("router bgp %d", r.ASN)
	line(" bgp router-id %s", r.ID)
	line(" bgp log-neighbor-changes")
	line(" no bgp ebgp-requires-policy")
	line(" no bgp default ipv4-unicast")
	line(" bgp bestpath as-path multipath-relax")
	var groups []string
	if len(r.Ranges) > 0 {
		groups = append(groups, "nodes")
		line(" neighbor nodes peer-group")
		line(" neighbor nodes remote-as %d", o.NodeASN)
		if o.Password != "" {
			line(" neighbor nodes password %s", o.Password)
		}
		if !o.NoBFD {
			line(" neighbor nodes bfd")
		}
		// IPv4 routes over an IPv6 session, RFC 8950.
		line(" neighbor nodes capability extended-nexthop")
		line(" bgp listen limit 500")
	}
	for _, n := range r.Neighbors {
		line(" neighbor %s remote-as %d", n.Addr, n.ASN)
		line(" neighbor %s description %s", n.Addr, n.Name)
		line(" neighbor %s timers connect 1", n.Addr)
		if !o.NoBFD {
			line(" neighbor %s bfd", n.Addr)
		}
	}
	for _, family := range r.families() {
		line(" address-family %s unicast", family)
		line("  redistribute connected")
		line("  maximum-paths 32")
		line("  maximum-paths ibgp 32")
		for _, g := range groups {
			line("  neighbor %s activate", g)
			if r.Reflects {
				line("  neighbor %s route-reflector-client", g)
			}
		}
		for _, n := range r.Neighbors {
			if n.Addr.Is6() != (family == "ipv6") {
				continue
			}
			line("  neighbor %s activate", n.Addr)
			if r.Reflects {
				// A reflector passes on its best path only, unless told otherwise:
				// its client would see one node of many.
				line("  neighbor %s route-reflector-client", n.Addr)
				line("  neighbor %s addpath-tx-all-paths", n.Addr)
			}
		}
		line(" exit-address-family")
	}
	// Last: bgpd takes one line after the other, and a node that is let in before
	// the families are set up is thrown out at its first route.
	for _, p := range r.Ranges {
		line(" bgp listen range %s peer-group nodes", p)
	}
	line("exit")
	return out.String()
}

// families are those a router speaks, as both daemons write them.
func (r Router) families() []string {
	var out []string
	for name, a := range map[string]netip.Addr{"ipv4": netip.IPv4Unspecified(), "ipv6": netip.IPv6Unspecified()} {
		if r.speaks(a) {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// birdText is the configuration of a BIRD router.
func birdText(o BGPOptions, r Router) string {
	var out strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	line("log stderr all;")
	line("router id %s;", r.ID)
	line("protocol device {}")
	line("protocol direct {")
	for _, family := range r.families() {
		line("  %s;", family)
	}
	line("}")
	for _, family := range r.families() {
		line("protocol kernel kernel_%s {", family)
		line("  merge paths on limit 32;")
		line("  %s { import none; export where source = RTS_BGP; };", family)
		line("}")
	}
	bfd := ""
	if !o.NoBFD {
		line("protocol bfd {")
		line("  interface \"*\" { interval 300 ms; multiplier 3; };")
		line("}")
		bfd = " bfd on;"
	}
	channels := func(only string) {
		for _, family := range r.families() {
			if only != "" && family != only {
				continue
			}
			more := ""
			if only == "" && family == "ipv4" {
				more = " extended next hop on;" // RFC 8950
			}
			line("  %s { import all; export all;%s };", family, more)
		}
	}
	for i, p := range r.Ranges {
		line("protocol bgp nodes%d {", i)
		line("  local as %d; direct;%s", r.ASN, bfd)
		line("  neighbor range %s as %d;", p, o.NodeASN)
		line("  dynamic name \"node%s_\";", map[bool]string{false: "4", true: "6"}[p.Addr().Is6()])
		line("  strict bind off;")
		if o.Password != "" {
			line("  password \"%s\";", o.Password)
		}
		channels("")
		line("}")
	}
	for _, n := range r.Neighbors {
		family := map[bool]string{false: "ipv4", true: "ipv6"}[n.Addr.Is6()]
		line("protocol bgp %s_%s {", n.Name, family)
		line("  local as %d; direct;%s", r.ASN, bfd)
		line("  neighbor %s as %d;", n.Addr, n.ASN)
		line("  connect retry time 1; connect delay time 1; error wait time 1, 5;")
		channels(family)
		line("}")
	}
	return out.String()
}
