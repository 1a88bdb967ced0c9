package reason

// Reasons of the speaker: why a node announces, or does not announce, a Service.
const (
	Elected                   Reason = "Elected"
	NotOwner                  Reason = "NotOwner"
	Starting                  Reason = "Starting"
	NoAddress                 Reason = "NoAddress"
	InvalidAddress            Reason = "InvalidAddress"
	AddressNotAllowed         Reason = "AddressNotAllowed"
	NoAdvertisement           Reason = "NoMatchingAdvertisement"
	SharedWithServiceSelector Reason = "SharedIPWithServiceSelector"
	NoEndpoints               Reason = "NoEndpoints"
	NoLocalEndpoints          Reason = "NoLocalEndpoints"
	NodeNotSelected           Reason = "NodeNotSelected"
	NodeNetworkUnavailable    Reason = "NodeNetworkUnavailable"
	NodeExcluded              Reason = "NodeLabeledExcludeBalancers"
	NodeNotAlive              Reason = "NodeNotAlive"
	NodeStarting              Reason = "NodeStarting"
	NodeDraining              Reason = "NodeDraining"
	InterfaceMissing          Reason = "InterfaceMissing"
	OwnerServesOthers         Reason = "OwnerServesOthers"
	InvalidBGPAttribute       Reason = "InvalidBGPAttribute"
	Advertised                Reason = "Advertised"
	ConflictingAdvertisements Reason = "ConflictingAdvertisements"
	UnknownCommunity          Reason = "UnknownCommunity"
	NoPeer                    Reason = "NoPeer"
)

var announcement = []Entry{
	{Elected, "This node owns the address and announces it.", ""},
	{NotOwner, "Another node owns the address.", ""},
	{Starting, "The speaker does not know the cluster yet, so it announces nothing new.", "Wait; if it lasts, read the speaker's log."},
	{NoAddress, "The Service has no address yet.", "Read the Service's Assigned condition."},
	{InvalidAddress, "The Service's status holds an address that cannot be read.", "Delete the entry from the Service's status."},
	{AddressNotAllowed, "No pool covers the Service's addresses.", "Restore the pool, or wait for the controller to assign another address."},
	{NoAdvertisement, "No L2Advertisement or BGPAdvertisement applies to this Service.", "Create an advertisement for the pool, or correct its selectors."},
	{SharedWithServiceSelector, "The Service allows address sharing while an L2Advertisement of its pool selects Services by label.", "Use one or the other."},
	{NoEndpoints, "The Service has no endpoint that can serve.", "Check the Service's pods and its selector."},
	{NoLocalEndpoints, "externalTrafficPolicy is Local and the node has no endpoint that can serve.", "Run a pod there, or use externalTrafficPolicy Cluster."},
	{NodeNotSelected, "The node selectors of the advertisements do not select the node.", "Change nodeSelectors or the node's labels."},
	{NodeNetworkUnavailable, "The node's NetworkUnavailable condition is true.", "Repair the node's network plug-in."},
	{NodeExcluded, "The node carries the label node.kubernetes.io/exclude-from-external-load-balancers.", "Remove the label, or run the speaker with --ignore-exclude-lb."},
	{NodeNotAlive, "The node's speaker is not in the membership ring.", "Check the speaker pod of that node and the gossip port."},
	{NodeStarting, "The node's speaker is starting and takes no addresses yet.", ""},
	{NodeDraining, "The node's speaker is draining.", ""},
	{InterfaceMissing, "The node has none of the interfaces that the advertisement names, or they are down or cannot announce the address.", "Correct spec.interfaces, or bring the interface up; for IPv6 it needs a link-local address."},
	{OwnerServesOthers, "The owner of the shared address may not announce this Service.", "Let the Services that share an address be served by the same nodes."},
	{InvalidBGPAttribute, "A BGP annotation of the Service cannot be understood and is not used.", "Correct the annotation that the message names."},
	{Advertised, "This node advertises the Service to its BGP peers.", ""},
	{ConflictingAdvertisements, "Two BGPAdvertisements that apply to the Service on this node give one prefix different attributes towards one peer.", "Give both the same localPref, med and asPathPrepend, or let them differ in prefix length, peers, nodes or Services."},
	{UnknownCommunity, "Every BGPAdvertisement that applies to the Service names a community that does not exist, itself or by the Service's annotation.", "Create the Community object, or correct the name."},
	{NoPeer, "No BGPPeer that the advertisements name is there for the node and for the Service's address family.", "Create a BGPPeer, or correct its nodeSelectors or the advertisement's peers; for both families use dualStackAddressFamily."},
}
