package manager

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTLS(t *testing.T) {
	tests := []struct {
		name string
		in   TLS
		// wantErr is a part of the error; empty means that there is none.
		wantErr    string
		wantMin    uint16
		wantSuites []uint16
		wantCurves []tls.CurveID
	}{
		{name: "nothing said means TLS 1.3 and Go's choices", wantMin: tls.VersionTLS13},
		{name: "TLS 1.2 with suites", in: TLS{MinVersion: "VersionTLS12", CipherSuites: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"},
			wantMin: tls.VersionTLS12, wantSuites: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}},
		{name: "curves by number", in: TLS{CurvePreferences: "4588,29"}, wantMin: tls.VersionTLS13, wantCurves: []tls.CurveID{tls.X25519MLKEM768, tls.X25519}},
		{name: "an old version is refused", in: TLS{MinVersion: "VersionTLS10"}, wantErr: `--tls-min-version "VersionTLS10"`},
		{name: "suites with TLS 1.3 are refused", in: TLS{CipherSuites: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}, wantErr: "needs --tls-min-version VersionTLS12"},
		{name: "a suite of TLS 1.3 is refused", in: TLS{MinVersion: "VersionTLS12", CipherSuites: "TLS_AES_128_GCM_SHA256"}, wantErr: "belongs to TLS 1.3"},
		{name: "an insecure suite is refused", in: TLS{MinVersion: "VersionTLS12", CipherSuites: "TLS_RSA_WITH_RC4_128_SHA"}, wantErr: "not a secure cipher suite"},
		{name: "a curve by name is refused", in: TLS{CurvePreferences: "X25519"}, wantErr: `"X25519" is not a curve`},
		{name: "an unknown curve is refused", in: TLS{CurvePreferences: "7"}, wantErr: `"7" is not a curve`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			apply, err := tt.in.Apply()
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("got error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got tls.Config
			apply(&got)
			if got.MinVersion != tt.wantMin {
				t.Errorf("least version %x, want %x", got.MinVersion, tt.wantMin)
			}
			if diff := cmp.Diff(tt.wantSuites, got.CipherSuites); diff != "" {
				t.Errorf("suites (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.wantCurves, got.CurvePreferences); diff != "" {
				t.Errorf("curves (-want +got)\n%s", diff)
			}
		})
	}
}
