// Package link watches the network interfaces of this node.
//
// It knows rtnetlink: it subscribes to the kernel's events, keeps the state
// that they describe, and publishes an immutable observed.Links whenever that
// changes. It never polls. When the connection fails, or the kernel says that
// events were lost, it opens another and reads everything anew, waiting longer
// each time.
//
// It refuses to know what the interfaces are for. Which of them may announce
// addresses is a rule over observed.Links, in announce.go; the speaker's wiring
// applies it before it hands the links to layer 2 and to membership.
//
// It is the only package that imports the netlink libraries.
package link
