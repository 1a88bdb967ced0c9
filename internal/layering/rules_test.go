package layering

import "strings"

// module is the prefix of our own packages; the rules name them without it.
const module = "github.com/heraldlb/herald/"

// pure packages are functions of immutable values.
var pure = []string{
	"internal/config", "internal/service", "internal/reason", "internal/conversion",
	"controller/ipam",
	"speaker/observed", "speaker/desired", "speaker/plan", "speaker/index",
	"speaker/bgp", "speaker/bfd",
}

// rooms own goroutines and sockets. They meet in types, and in run.go.
var rooms = []string{
	"speaker/l2", "speaker/link", "speaker/membership", "speaker/report",
	"speaker/bgp/gobgp", "speaker/bfd/udp",
}

// forTests are packages that only tests, and one another, may import.
var forTests = []string{
	"internal/testutil/...", "internal/config/configtest", "speaker/plan/plantest",
}

// A rule says that no package of from may import a package of to.
type rule struct {
	from, to []string
	// except are imports of to that are allowed all the same.
	except []string
	// deep looks at what is imported through others, too.
	deep    bool
	because string
}

var rules = []rule{
	{
		from: pure, to: []string{"os/...", "log/...", "net/http/...", "syscall", "io/fs", "math/rand/...", "crypto/rand", "golang.org/x/sys/..."},
		because: "the same input must give the same answer on every node and in every test",
	},
	{
		from: pure, deep: true,
		to: []string{
			"k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/...", "github.com/prometheus/...",
			"github.com/hashicorp/...", "github.com/mdlayher/...", "github.com/jsimonetti/...", "github.com/osrg/...",
		},
		because: "who decides has no client, socket or metric, not even through others",
	},
	{
		from: []string{"api/..."}, to: []string{"..."},
		except:  []string{"api/...", "k8s.io/apimachinery/...", "errors", "fmt", "strconv", "strings", "slices", "maps", "cmp"},
		because: "users import the API types, and get what they import with them",
	},
	{
		from: []string{"controller/..."}, to: []string{"speaker/..."},
		because: "the two ship and fail separately",
	},
	{
		from: []string{"speaker/..."}, to: []string{"controller/..."},
		because: "the two ship and fail separately",
	},
	{
		from: []string{"internal/...", "api/..."}, to: []string{"controller/...", "speaker/..."},
		because: "what both share knows neither",
	},
	{
		from: []string{"..."}, to: []string{"controller", "speaker"},
		because: "main and run wire everything, and nothing depends on wiring",
	},
	{
		from: []string{"..."}, to: []string{"e2etest/...", "tools/..."},
		because: "what the product ships never depends on its tests or tools",
	},
	{
		from: []string{
			"controller/ipam", "speaker/observed", "speaker/desired", "speaker/plan", "speaker/index",
			"speaker/l2", "speaker/link", "speaker/membership", "speaker/bgp/...", "speaker/bfd/...",
		},
		to:      []string{"api/..."},
		because: "after Compile there is nothing left to parse; only the loops and the report read and write objects",
	},
}

// A library has one home, so that it can be replaced there.
type library struct {
	prefix  string
	homes   []string
	because string
}

// kubernetes are the packages that speak to the API server.
var kubernetes = []string{"internal/manager", "internal/status", "controller", "speaker", "speaker/report"}

// libraries lists every import from outside the standard library. The longest
// prefix counts.
var libraries = []library{
	{"k8s.io/apimachinery", []string{"..."}, "its value types are the words of the API"},
	{"k8s.io/api", append([]string{"internal/service"}, kubernetes...), "a Service is parsed once, in internal/service"},
	{"k8s.io/apiextensions-apiserver", []string{"internal/conversion"}, "only the conversion speaks of definitions: it answers the API server's reviews"},
	{"k8s.io/client-go", kubernetes, "one house for clients, and the loops that live in it"},
	{"k8s.io/utils", kubernetes, "small helpers of the same house"},
	{"sigs.k8s.io/controller-runtime", kubernetes, "one house for clients, and the loops that live in it"},
	{"github.com/go-logr/logr", []string{"internal/manager"}, "we log with slog; the bridge is in one place"},
	{"k8s.io/klog/v2", []string{"internal/manager"}, "we log with slog; the bridge is in one place"},
	{"github.com/prometheus/client_golang", append([]string{"speaker/l2", "speaker/link", "speaker/membership", "speaker/bgp/gobgp", "speaker/bfd/udp"}, kubernetes...), "whoever has effects counts them"},
	{"github.com/hashicorp/memberlist", []string{"speaker/membership"}, "the gossip library is a detail of membership"},
	{"github.com/mdlayher/arp", []string{"speaker/l2"}, "packets are a detail of l2"},
	{"github.com/mdlayher/ndp", []string{"speaker/l2"}, "packets are a detail of l2"},
	{"github.com/mdlayher/packet", []string{"speaker/l2"}, "packets are a detail of l2"},
	{"github.com/mdlayher/ethernet", []string{"speaker/l2"}, "packets are a detail of l2"},
	{"github.com/mdlayher/socket", []string{"speaker/l2"}, "packets are a detail of l2"},
	{"golang.org/x/net", []string{"speaker/l2", "speaker/bgp/gobgp", "speaker/bfd/udp"}, "packet filters, ICMP and what comes with a packet are details of who owns the socket"},
	{"github.com/osrg/gobgp/v4", []string{"speaker/bgp/gobgp"}, "the BGP library is a detail of one room, so that it can be replaced there"},
	{"github.com/jsimonetti/rtnetlink/v2", []string{"speaker/link"}, "links are watched in one place"},
	{"github.com/mdlayher/netlink", []string{"speaker/link"}, "links are watched in one place"},
	{"golang.org/x/sys", []string{"speaker/l2", "speaker/link", "speaker/bgp/gobgp", "speaker/bfd/udp", "internal/testutil/netns"}, "system calls are for those who own sockets"},
	{"golang.org/x/sync", []string{"controller", "speaker"}, "run starts the parts and waits for them"},
	{"sigs.k8s.io/yaml", []string{"speaker/link", "internal/config/configtest"}, "one file is read as YAML: the interfaces that never announce"},
	{"pgregory.net/rapid", forTests, "properties are tests"},
	{"github.com/google/go-cmp", forTests, "comparisons with a difference are tests"},
}

// in says whether a package, named without our module's prefix, is in a list of
// patterns: a path, or a path with /... for all below it as well, or ... for all.
func in(patterns []string, pkg string) bool {
	for _, p := range patterns {
		base, below := strings.CutSuffix(p, "/...")
		if p == "..." || pkg == base || below && strings.HasPrefix(pkg, base+"/") {
			return true
		}
	}
	return false
}
