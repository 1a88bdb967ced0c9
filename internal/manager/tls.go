package manager

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// TLS is the policy of a TLS server, in the words of the --tls-* flags.
type TLS struct {
	// MinVersion is VersionTLS12 or VersionTLS13; empty means VersionTLS13.
	MinVersion string
	// CipherSuites is a comma list of Go's names. TLS 1.3 fixes its suites, so
	// a list is an error unless MinVersion is VersionTLS12.
	CipherSuites string
	// CurvePreferences is a comma list of IANA's numeric curve identifiers.
	CurvePreferences string
}

// Apply returns the function that puts the policy into a server's settings, or
// an error that names the flag whose value is wrong.
func (t TLS) Apply() (func(*tls.Config), error) {
	var minVersion uint16
	switch t.MinVersion {
	case "", "VersionTLS13":
		minVersion = tls.VersionTLS13
	case "VersionTLS12":
		minVersion = tls.VersionTLS12
	default:
		return nil, fmt.Errorf("--tls-min-version %q: expected VersionTLS12 or VersionTLS13", t.MinVersion)
	}
	suites, err := cipherSuites(t.CipherSuites)
	if err != nil {
		return nil, err
	}
	if len(suites) > 0 && minVersion == tls.VersionTLS13 {
		return nil, fmt.Errorf("--tls-cipher-suites needs --tls-min-version VersionTLS12: TLS 1.3 fixes its cipher suites")
	}
	curves, err := curves(t.CurvePreferences)
	if err != nil {
		return nil, err
	}
	return func(c *tls.Config) {
		c.MinVersion = minVersion
		c.CipherSuites = suites
		c.CurvePreferences = curves
		// A scraper gains nothing from HTTP/2, and its server is the larger target.
		c.NextProtos = []string{"http/1.1"}
	}, nil
}

func cipherSuites(list string) ([]uint16, error) {
	var ids []uint16
	for _, name := range fields(list) {
		all := tls.CipherSuites()
		i := slices.IndexFunc(all, func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("--tls-cipher-suites: %q is not a secure cipher suite that Go knows; names look like TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", name)
		}
		if !slices.Contains(all[i].SupportedVersions, tls.VersionTLS12) {
			return nil, fmt.Errorf("--tls-cipher-suites: %s belongs to TLS 1.3, whose suites cannot be chosen; name suites of TLS 1.2", name)
		}
		ids = append(ids, all[i].ID)
	}
	return ids, nil
}

func curves(list string) ([]tls.CurveID, error) {
	var ids []tls.CurveID
	for _, text := range fields(list) {
		n, err := strconv.ParseUint(text, 10, 16)
		// Go's own names tell the identifiers it implements from the others.
		if err != nil || strings.HasPrefix(tls.CurveID(n).String(), "CurveID(") {
			return nil, fmt.Errorf("--tls-curve-preferences: %q is not a curve that Go knows; expected numbers such as 29 (X25519) or 4588 (X25519MLKEM768)", text)
		}
		ids = append(ids, tls.CurveID(n))
	}
	return ids, nil
}

func fields(list string) []string {
	var out []string
	for _, f := range strings.Split(list, ",") {
		if f = strings.TrimSpace(f); f != "" {
			out = append(out, f)
		}
	}
	return out
}
