// Package pki makes the keys of a lab's cluster: one authority, certificates for
// servers and clients, the key that signs service account tokens, and kubeconfig
// files. Everything is made anew for each lab and lives as long as its folder.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// validity is longer than any lab lives; the back-dating forgives a clock that
// is set while a lab starts.
const (
	validity   = 48 * time.Hour
	backdating = time.Hour
)

// Authority signs the certificates of one cluster and writes them to a folder.
type Authority struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	pem  []byte
}

// Pair is a certificate and its key as PEM, and the files they were written to.
type Pair struct {
	Cert, Key         []byte
	CertFile, KeyFile string
}

// New makes an authority that writes to dir.
func New(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of certificates: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the authority's key: %w", err)
	}
	tmpl, err := template("herald-lab")
	if err != nil {
		return nil, err
	}
	tmpl.IsCA = true
	tmpl.BasicConstraintsValid = true
	tmpl.KeyUsage |= x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the authority: %w", err)
	}
	a := &Authority{dir: dir, key: key, cert: cert, pem: encode("CERTIFICATE", der)}
	if err := os.WriteFile(a.File(), a.pem, 0o644); err != nil {
		return nil, fmt.Errorf("write the authority: %w", err)
	}
	return a, nil
}

// File is the authority's certificate.
func (a *Authority) File() string { return filepath.Join(a.dir, "ca.crt") }

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte { return a.pem }

// Server makes a certificate for a server with names and addresses.
func (a *Authority) Server(name string, dns []string, ips []netip.Addr) (Pair, error) {
	tmpl, err := template(name)
	if err != nil {
		return Pair{}, err
	}
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	tmpl.DNSNames = dns
	for _, ip := range ips {
		tmpl.IPAddresses = append(tmpl.IPAddresses, net.IP(ip.AsSlice()))
	}
	return a.issue(name, tmpl)
}

// Client makes a certificate for a user and its groups. file names the files.
func (a *Authority) Client(file, user string, groups ...string) (Pair, error) {
	tmpl, err := template(user)
	if err != nil {
		return Pair{}, err
	}
	tmpl.Subject.Organization = groups
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(file, tmpl)
}

// ServiceAccountKey makes the key that signs service account tokens and returns
// its file. The API server accepts the private key for checking them, too.
func (a *Authority) ServiceAccountKey() (string, error) {
	// RSA, because the API server's token signer wants RSA or ECDSA and every
	// client library knows RS256.
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", fmt.Errorf("make the service account key: %w", err)
	}
	path := filepath.Join(a.dir, "service-account.key")
	data := encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("write the service account key: %w", err)
	}
	return path, nil
}

// Kubeconfig writes a kubeconfig for a client of the API server at a URL.
func (a *Authority) Kubeconfig(path, server string, client Pair) error {
	const name = "herald-lab"
	cfg := api.NewConfig()
	cfg.Clusters[name] = &api.Cluster{Server: server, CertificateAuthorityData: a.pem}
	cfg.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: client.Cert, ClientKeyData: client.Key}
	cfg.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	cfg.CurrentContext = name
	if err := clientcmd.WriteToFile(*cfg, path); err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return nil
}

// issue signs a certificate with a new key and writes both.
func (a *Authority) issue(file string, tmpl *x509.Certificate) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("make the key of %s: %w", file, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("make the certificate of %s: %w", file, err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return Pair{}, fmt.Errorf("make the key of %s: %w", file, err)
	}
	p := Pair{
		Cert: encode("CERTIFICATE", der), Key: encode("EC PRIVATE KEY", keyDER),
		CertFile: filepath.Join(a.dir, file+".crt"), KeyFile: filepath.Join(a.dir, file+".key"),
	}
	if err := os.WriteFile(p.CertFile, p.Cert, 0o644); err != nil {
		return Pair{}, fmt.Errorf("write the certificate of %s: %w", file, err)
	}
	if err := os.WriteFile(p.KeyFile, p.Key, 0o600); err != nil {
		return Pair{}, fmt.Errorf("write the key of %s: %w", file, err)
	}
	return p, nil
}

func template(name string) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-backdating),
		NotAfter:     now.Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}, nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
