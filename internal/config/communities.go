package config

import (
	"fmt"
	"strconv"
	"strings"
)

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
			value, err := parseCommunity(alias.Value)
			if err != nil {
				r.errorf(field+".value", "%v", err)
				continue
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
	rest, large := strings.CutPrefix(text, "large:")
	fields := strings.Split(rest, ":")
	count, bits, format := 2, 16, "64512:100"
	if large {
		count, bits, format = 3, 32, "large:64512:1:2"
	}
	if len(fields) != count {
		return Community{}, fmt.Errorf("invalid community value %q: expected community to be of format %s", text, format)
	}
	var c Community
	if large {
		c.Kind = LargeCommunity
	}
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, bits)
		if err != nil {
			return Community{}, fmt.Errorf("invalid community value: invalid section %q of community %q: expected a number from 0 to %d", f, text, uint64(1)<<bits-1)
		}
		c.Fields[i] = uint32(n)
	}
	return c, nil
}
