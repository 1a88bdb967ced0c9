package config

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"
)

// Equal is true when two snapshots mean the same, so that nothing has to be
// done to get from one to the other. It costs one comparison of 32 bytes.
func (s *Snapshot) Equal(o *Snapshot) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.digest == o.digest
}

func (s *Snapshot) fingerprint() [32]byte { return sha256.Sum256([]byte(s.describe())) }

// describe writes down the whole content. Every list in a Snapshot has a
// defined order, so that equal content gives equal text; quoting keeps
// different content from looking alike. The text holds passwords.
func (s *Snapshot) describe() string {
	var b bytes.Buffer
	for _, p := range s.Pools {
		p.describe(&b)
	}
	for _, ad := range s.L2Advertisements {
		fmt.Fprintf(&b, "l2 %q nodes %s interfaces %q services %s", ad.Name,
			selectorText(ad.NodeSelectors), ad.Interfaces, selectorText(ad.ServiceSelectors))
		for _, pref := range ad.Preferences {
			fmt.Fprintf(&b, " prefer %d %s", pref.Weight, selectorText([]labels.Selector{pref.Nodes}))
		}
		b.WriteByte('\n')
	}
	for _, ad := range s.BGPAdvertisements {
		fmt.Fprintf(&b, "bgp %q %d %d %d %v %q nodes %s peers %q services %s prepend %d med %s weight %t may %04b\n", ad.Name,
			ad.AggregationLength, ad.AggregationLengthV6, ad.LocalPref, ad.Communities, ad.UnknownCommunities,
			selectorText(ad.NodeSelectors), ad.Peers, selectorText(ad.ServiceSelectors),
			ad.Prepend, medText(ad.MED), ad.WeightByEndpoints, ad.ServiceMay)
	}
	for _, p := range s.Peers {
		p.describe(&b)
	}
	for _, p := range s.BFDProfiles {
		p.describe(&b)
		b.WriteByte('\n')
	}
	for _, name := range slices.Sorted(maps.Keys(s.Communities)) {
		fmt.Fprintf(&b, "community %q %v\n", name, s.Communities[name])
	}
	return b.String()
}

func (p *Pool) describe(b *bytes.Buffer) {
	fmt.Fprintf(b, "pool %q labels %q %v auto %t buggy %t incomplete %t", p.Name,
		p.Labels.String(), p.Prefixes, p.AutoAssign, p.AvoidBuggyIPs, p.Incomplete)
	if p.Pin != nil {
		fmt.Fprintf(b, " pin %d any %t names %q namespaces %s services %s incomplete %t",
			p.Pin.Priority, p.Pin.AnyNamespace, slices.Sorted(maps.Keys(p.Pin.Namespaces)),
			selectorText(p.Pin.NamespaceSelectors), selectorText(p.Pin.ServiceSelectors), p.Pin.Incomplete)
	}
	for _, ad := range p.L2 {
		fmt.Fprintf(b, " l2 %q", ad.Name)
	}
	for _, ad := range p.BGP {
		fmt.Fprintf(b, " bgp %q", ad.Name)
	}
	b.WriteByte('\n')
}

func (p *Peer) describe(b *bytes.Buffer) {
	fmt.Fprintf(b, "peer %q as %d %d %d %d to %s %q %s port %d from %s id %s nodes %s password %q %q graceful %t hops %t vrf %q dual %t ttl %t passive %t",
		p.Name, p.MyASN, p.PeerASN, p.Dynamic, p.LocalASN, p.Address, p.Interface, p.Prefix, p.Port, p.Source, p.RouterID,
		selectorText(p.NodeSelectors), p.Password, p.PasswordSecret, p.GracefulRestart, p.EBGPMultiHop, p.VRF, p.DualStack,
		p.TTLSecurity, p.Passive)
	for _, t := range []*time.Duration{p.HoldTime, p.KeepaliveTime, p.ConnectTime} {
		if t != nil {
			fmt.Fprintf(b, " %s", t)
		} else {
			b.WriteString(" unset")
		}
	}
	if p.BFD != nil {
		p.BFD.describe(b)
	}
	b.WriteByte('\n')
}

func (p *BFDProfile) describe(b *bytes.Buffer) {
	fmt.Fprintf(b, " bfd %q %s %s %d echo %s %t passive %t ttl %d", p.Name, p.ReceiveInterval, p.TransmitInterval,
		p.DetectMultiplier, p.EchoInterval, p.EchoMode, p.PassiveMode, p.MinimumTTL)
	if p.AuthSecret != "" {
		fmt.Fprintf(b, " auth %q %d meticulous %t", p.AuthSecret, p.AuthKeyID, p.AuthMeticulous)
	}
}

// selectorText tells a selector that matches nothing from one that matches
// everything, both of which print as "".
func selectorText(list []labels.Selector) string {
	texts := make([]string, len(list))
	for i, s := range list {
		texts[i] = s.String()
		if _, selectable := s.Requirements(); !selectable {
			texts[i] = "nothing"
		}
	}
	return fmt.Sprintf("%q", texts)
}
