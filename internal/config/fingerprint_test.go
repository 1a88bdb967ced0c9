package config_test

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/internal/config"
)

// other returns a value of the type that is not its zero value.
func other(t *testing.T, of reflect.Type) reflect.Value {
	t.Helper()
	if of == reflect.TypeFor[labels.Selector]() {
		return reflect.ValueOf(labels.SelectorFromSet(labels.Set{"a": "b"}))
	}
	switch v := reflect.New(of).Elem(); v.Interface().(type) {
	case netip.Addr:
		return reflect.ValueOf(netip.MustParseAddr("192.0.2.1"))
	case netip.Prefix:
		return reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24"))
	case []labels.Selector:
		return reflect.ValueOf([]labels.Selector{labels.SelectorFromSet(labels.Set{"a": "b"})})
	case labels.Set:
		return reflect.ValueOf(labels.Set{"a": "b"})
	case []netip.Prefix:
		return reflect.ValueOf([]netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")})
	case map[string]struct{}:
		return reflect.ValueOf(map[string]struct{}{"x": {}})
	case []config.Preference:
		return reflect.ValueOf([]config.Preference{{Weight: 1, Nodes: labels.Everything()}})
	case *config.Pin:
		return reflect.ValueOf(&config.Pin{})
	case []*config.L2Advertisement:
		return reflect.ValueOf([]*config.L2Advertisement{{Name: "x"}})
	case []*config.BGPAdvertisement:
		return reflect.ValueOf([]*config.BGPAdvertisement{{Name: "x"}})
	case []config.Community:
		return reflect.ValueOf([]config.Community{{Fields: [3]uint32{1, 2}}})
	case []string:
		return reflect.ValueOf([]string{"x"})
	case *time.Duration:
		return reflect.ValueOf(new(time.Duration))
	case *uint32:
		return reflect.ValueOf(new(uint32))
	case *config.BFDProfile:
		return reflect.ValueOf(&config.BFDProfile{Name: "x"})
	}
	switch v := reflect.New(of).Elem(); v.Kind() {
	case reflect.String:
		v.SetString("x")
		return v
	case reflect.Bool:
		v.SetBool(true)
		return v
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
		return v
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(7)
		return v
	}
	t.Fatalf("this test does not know how to change a %s: teach it", of)
	return reflect.Value{}
}

// A change of any field is a change of the snapshot, or nobody would obey it.
// Fields that do not exist yet are covered as well.
func TestEveryFieldIsInTheFingerprint(t *testing.T) {
	// A profile without a Secret does not authenticate, whatever it says else.
	base := map[string]func() (any, *config.Snapshot){
		"L2Advertisement": func() (any, *config.Snapshot) {
			ad := &config.L2Advertisement{}
			return ad, &config.Snapshot{L2Advertisements: []*config.L2Advertisement{ad}}
		},
		"Preference of an L2Advertisement": func() (any, *config.Snapshot) {
			list := []config.Preference{{Nodes: labels.Everything()}}
			return &list[0], &config.Snapshot{L2Advertisements: []*config.L2Advertisement{{Preferences: list}}}
		},
		"Pool": func() (any, *config.Snapshot) {
			p := &config.Pool{}
			return p, &config.Snapshot{Pools: []*config.Pool{p}}
		},
		"Pin of a Pool": func() (any, *config.Snapshot) {
			pin := &config.Pin{}
			return pin, &config.Snapshot{Pools: []*config.Pool{{Pin: pin}}}
		},
		"BGPAdvertisement": func() (any, *config.Snapshot) {
			ad := &config.BGPAdvertisement{}
			return ad, &config.Snapshot{BGPAdvertisements: []*config.BGPAdvertisement{ad}}
		},
		"Peer": func() (any, *config.Snapshot) {
			p := &config.Peer{}
			return p, &config.Snapshot{Peers: []*config.Peer{p}}
		},
		"BFDProfile": func() (any, *config.Snapshot) {
			p := &config.BFDProfile{AuthSecret: "s"}
			return p, &config.Snapshot{BFDProfiles: []*config.BFDProfile{p}}
		},
		"BFDProfile of a Peer": func() (any, *config.Snapshot) {
			p := &config.BFDProfile{AuthSecret: "s"}
			return p, &config.Snapshot{Peers: []*config.Peer{{BFD: p}}}
		},
	}
	for name, make := range base {
		t.Run(name, func(t *testing.T) {
			_, plain := make()
			before := config.Describe(plain)
			object, _ := make()
			for i := range reflect.ValueOf(object).Elem().NumField() {
				object, s := make()
				if !reflect.TypeOf(object).Elem().Field(i).IsExported() {
					continue // worked out from the others
				}
				field := reflect.ValueOf(object).Elem().Field(i)
				field.Set(other(t, field.Type()))
				if config.Describe(s) == before {
					t.Errorf("a change of %s is not seen", reflect.TypeOf(object).Elem().Field(i).Name)
				}
			}
		})
	}
}
