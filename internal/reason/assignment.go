package reason

// Reasons of the controller: why a Service has, or lacks, its addresses.
const (
	Assigned            Reason = "Assigned"
	NoPools             Reason = "NoPools"
	NoClusterIP         Reason = "NoClusterIP"
	NotEnoughClusterIPs Reason = "NotEnoughClusterIPs"
	PoolUnknown         Reason = "PoolUnknown"
	PoolNotAllowed      Reason = "PoolNotAllowed"
	PoolExhausted       Reason = "PoolExhausted"
	NoPoolForService    Reason = "NoPoolForService"
	AddressNotInPool    Reason = "AddressNotInPool"
	AddressInUse        Reason = "AddressInUse"
	SharingConflict     Reason = "SharingConflict"
	PortConflict        Reason = "PortConflict"
	FamilyMismatch      Reason = "FamilyMismatch"
	InvalidRequest      Reason = "InvalidRequest"
	OneFamilyOnly       Reason = "OneFamilyOnly"
	FamilyNotInPool     Reason = "FamilyNotInPool"
	PoolMismatch        Reason = "PoolMismatch"
	PoolMissing         Reason = "PoolMissing"
	RequestChanged      Reason = "RequestChanged"
)

var assignment = []Entry{
	{Assigned, "The Service has the addresses that it asked for.", ""},
	{NoPools, "There is no usable IPAddressPool.", "Create an IPAddressPool, or read the ConfigurationState object for what is wrong with the existing ones."},
	{NoClusterIP, "The Service has no cluster IP, so its address families are not known.", "Headless Services cannot be of type LoadBalancer; otherwise wait for the API server."},
	{NotEnoughClusterIPs, "The Service requires dual stack but has one cluster IP only.", "Use ipFamilyPolicy PreferDualStack, or make the cluster dual-stack."},
	{PoolUnknown, "The Service asks for a pool that does not exist.", "Correct the address-pool annotation, or create the pool."},
	{PoolNotAllowed, "The pool's serviceAllocation does not admit this Service.", "Change serviceAllocation of the pool, or ask for another pool."},
	{PoolExhausted, "Every pool that the Service may use is full.", "Add addresses to a pool, or delete Services that are no longer needed."},
	{NoPoolForService, "No pool admits this Service for automatic assignment.", "Set autoAssign on a pool, widen its serviceAllocation, or name a pool by annotation."},
	{AddressNotInPool, "The requested address is in no pool.", "Request an address that a pool holds; with avoidBuggyIPs, .0 and .255 do not count."},
	{AddressInUse, "The requested address belongs to another Service.", "Request another address, or let both Services share it by annotation."},
	{SharingConflict, "The address is shared under other conditions: the sharing keys or the backends differ.", "Give both Services the same allow-shared-ip value; with externalTrafficPolicy Local they also need the same selector."},
	{PortConflict, "Another Service on the shared address uses the same protocol and port.", "Use distinct ports on a shared address."},
	{FamilyMismatch, "The requested addresses do not match the Service's address families.", "Request one address for each of the Service's families."},
	{InvalidRequest, "A request on the Service cannot be understood.", "Correct the annotation that the message names."},
	{OneFamilyOnly, "The Service prefers dual stack and has an address of one family; no pool has the other family free.", "Add a range of the missing family to the Service's pool."},
	{FamilyNotInPool, "No pool that the Service may use has addresses of its family.", "Add a range of that family to a pool; a dual-stack Service needs both families in one pool."},
	{PoolMismatch, "The requested addresses are not in one pool, or not in the pool that the Service asks for.", "Request addresses of one pool, and correct or remove the address-pool annotation."},
	{PoolMissing, "No pool holds the Service's addresses at the moment; the Service keeps them for now.", "Restore the pool, or correct the entries of spec.addresses that the ConfigurationState object names."},
	{RequestChanged, "The Service asks for other addresses, or another pool, than before.", ""},
}
