package transport

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
)

// Keys are the control plane's two TLS keys: the active key, and the standby key, which cells know already, so that it
// can take over without notice (R29). Replicas share them.
type Keys struct {
	Pins []string // of the active and the standby key
	// SignedPins lead from older pins to these, oldest first.
	SignedPins []cells.SignedPins
	// StandbyHere says that the standby key itself is in the folder: whoever takes this machine over has it too.
	StandbyHere bool
	cert        tls.Certificate
}

const (
	activeKey     = "active.key"
	standbyKey    = "standby.key"
	standbyPublic = "standby.pub" // in place of standbyKey once that is kept elsewhere
	maxKeySize    = 16 << 10      // bytes
	// maxCertificateSize bounds a cell's certificate, in bytes. A self-signed one has about 400.
	maxCertificateSize = 4 << 10
)

// OpenKeys reads the keys in a folder and creates missing ones. The standby key may be kept elsewhere: then its public
// half is enough. Where the standby key was moved onto the active one, OpenKeys makes another standby key, and signs
// its pin with the one that is active now, which cells know as their standby key.
func OpenKeys(dir string) (*Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of the control plane's keys: %w", err)
	}
	if info, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("check the folder of the control plane's keys: %w", err)
	} else if info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
		return nil, fmt.Errorf("everyone on this machine can write to %s, and so replace the keys: chmod o-w %s",
			dir, dir)
	}
	active, standby := filepath.Join(dir, activeKey), filepath.Join(dir, standbyKey)
	hasActive, hasStandby, hasPublic := fileExists(active), fileExists(standby),
		fileExists(filepath.Join(dir, standbyPublic))
	if !hasActive && (hasStandby || hasPublic) {
		return nil, fmt.Errorf("%s is missing, but a standby key exists: restore the first, or let the standby key take "+
			"over with sluice standby-key promote", active)
	}
	key, err := loadOrCreateKey(active)
	if err != nil {
		return nil, err
	}
	k := &Keys{StandbyHere: hasStandby || !hasPublic}
	if k.cert, err = identity.SelfSignedCertificate(rand.Reader, key, "sluice", time.Now()); err != nil {
		return nil, fmt.Errorf("%s: %w", active, err)
	}
	var public crypto.PublicKey
	if k.StandbyHere {
		other, err := loadOrCreateKey(standby)
		if err != nil {
			return nil, err
		}
		public = other.Public()
	} else if public, err = loadPublicKey(filepath.Join(dir, standbyPublic)); err != nil {
		return nil, err
	}
	if k.Pins, err = pinsOf(key.Public(), public); err != nil {
		return nil, err
	}
	if k.Pins[0] == k.Pins[1] {
		return nil, fmt.Errorf("%s is also the standby key in %s: remove %s or %s there, and a new standby key is created; "+
			"or let the standby key take over with sluice standby-key promote, which makes a new one elsewhere",
			active, dir, standbyKey, standbyPublic)
	}
	if hasActive && k.StandbyHere && !hasStandby {
		if err := appendSignedPins(dir, key, k.Pins); err != nil {
			return nil, err
		}
	}
	k.SignedPins, err = loadSignedPins(dir)
	return k, err
}

// Certificate returns the active key's self-signed certificate.
func (k *Keys) Certificate() tls.Certificate { return k.cert }

func fileExists(file string) bool {
	_, err := os.Lstat(file)
	return !errors.Is(err, fs.ErrNotExist)
}

func loadOrCreateKey(file string) (*ecdsa.PrivateKey, error) {
	key, err := loadKey(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := createKey(file); err != nil && !errors.Is(err, fs.ErrExist) { // ErrExist: another replica was faster
		return nil, fmt.Errorf("make %s: %w", file, err)
	}
	return loadKey(file)
}

func loadKey(file string) (*ecdsa.PrivateKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the control plane's key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the control plane's key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf(
			"%s can be read by others, who could impersonate the control plane: chmod 600 %s, and if somebody may "+
				"have read it, let the standby key take over", file, file)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeySize))
	if err != nil {
		return nil, fmt.Errorf("read the control plane's key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s is not a key in PEM: restore the right file", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		// err could quote the key
		return nil, fmt.Errorf("%s is not a private key in PKCS #8: restore the right file", file)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s is not an ECDSA key on P-256: restore the right file", file)
	}
	return ec, nil
}

// LoadKeyPair reads a certificate and its private key. It refuses a key that everyone on the machine can read.
func LoadKeyPair(cert, key string) (tls.Certificate, error) {
	info, err := os.Stat(key)
	if err != nil {
		return tls.Certificate{}, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return tls.Certificate{},
			fmt.Errorf("%s can be read by everyone on this machine: chmod o= %s, and replace it if somebody may have "+
				"read it", key, key)
	}
	return tls.LoadX509KeyPair(cert, key)
}

// createKey writes a new key to a temporary file, syncs it and links it to its name. It returns fs.ErrExist if the name
// is taken.
func createKey(file string) (err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	if err := errors.Join(pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// cellsTLS configures the cells' listener: TLS 1.3, with a key on the client's side. Package auth looks the key up for
// every request, as a resumed session may be older than a revocation.
func cellsTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error {
			// Anyone can make a key, and an open connection keeps its certificates in memory.
			if len(cs.PeerCertificates) > 1 || len(cs.PeerCertificates[0].Raw) > maxCertificateSize {
				return fmt.Errorf("the peer shows more than one certificate, or one of more than %d bytes",
					maxCertificateSize)
			}
			if _, ok := cs.PeerCertificates[0].PublicKey.(ed25519.PublicKey); !ok {
				return errors.New("the peer's key is not Ed25519")
			}
			return nil
		},
	}
}

func peopleTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
}
