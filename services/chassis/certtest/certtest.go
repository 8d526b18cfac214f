// Package certtest is a certificate authority of a test's own, and files that
// are replaced as Kubernetes replaces those of a Secret. Only tests import it.
package certtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority signs certificates.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	// PEM is its own certificate.
	PEM []byte
}

// New makes an authority.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(t), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{certificate, key, encode("CERTIFICATE", der)}
}

// Issue makes a certificate for client and server of 127.0.0.1 and the names, with
// its key. It is good for life from now on; below 0, it was until then.
func (a *Authority) Issue(t testing.TB, life time.Duration, names ...string) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(t), DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, private.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", secret)
}

func serial(t testing.TB) *big.Int {
	t.Helper()
	n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// Mount is a folder of files that are replaced all at once: each is a link into
// ..data, which is a link to the folder that counts.
type Mount struct {
	dir     string
	version int
}

// NewMount makes one with these files.
func NewMount(t testing.TB, files map[string][]byte) *Mount {
	t.Helper()
	m := &Mount{dir: t.TempDir()}
	m.Replace(t, files)
	return m
}

// Path is where a file is read.
func (m *Mount) Path(name string) string { return filepath.Join(m.dir, name) }

// Replace replaces all files.
func (m *Mount) Replace(t testing.TB, files map[string][]byte) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	before := fmt.Sprintf("..%d", m.version)
	m.version++
	now := fmt.Sprintf("..%d", m.version)
	check(os.Mkdir(m.Path(now), 0o700))
	for name, text := range files {
		check(os.WriteFile(filepath.Join(m.Path(now), name), text, 0o600))
	}
	check(os.Symlink(now, m.Path("..new")))
	check(os.Rename(m.Path("..new"), m.Path("..data")))
	for name := range files {
		if _, err := os.Lstat(m.Path(name)); err != nil {
			check(os.Symlink(filepath.Join("..data", name), m.Path(name)))
		}
	}
	check(os.RemoveAll(m.Path(before)))
}

// TLS are the files tls.crt, tls.key and ca.crt, as cert-manager names them.
func TLS(certificate, key []byte, authorities ...*Authority) map[string][]byte {
	files := map[string][]byte{"tls.crt": certificate, "tls.key": key}
	for _, a := range authorities {
		files["ca.crt"] = append(files["ca.crt"], a.PEM...)
	}
	return files
}
