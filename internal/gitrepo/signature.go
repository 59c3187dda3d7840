package gitrepo

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/internal/gitrepo/objects"
)

// Signer signs commits, as SSHSigner does.
type Signer interface {
	// Sign returns the armored signature of a commit's bytes.
	Sign(commit []byte) ([]byte, error)
}

// signatureNamespace is the namespace of git's SSH signatures (git-config, gpg.format ssh).
const signatureNamespace = "git"

// SSHSigner signs as git does with gpg.format=ssh.
type SSHSigner struct{ Key ssh.Signer }

// LoadSigner reads a private SSH key without a passphrase.
func LoadSigner(file string) (SSHSigner, error) {
	key, err := readKey(file)
	return SSHSigner{key}, err
}

func (s SSHSigner) Sign(commit []byte) ([]byte, error) {
	sig, err := sshsig.Sign(bytes.NewReader(commit), s.Key, sshsig.HashSHA512, signatureNamespace)
	if err != nil {
		return nil, fmt.Errorf("sign commit: %w", err)
	}
	return sshsig.Armor(sig), nil
}

// signedBy returns the public key whose SSH signature of a raw commit is valid, in authorized_keys form; empty: none
// is. Whose key it is, the caller has to find out.
func signedBy(raw, armored []byte) string {
	sig, err := sshsig.Unarmor(armored)
	if err != nil || sig.Signature.Format == ssh.KeyAlgoRSA { // over SHA-1: OpenSSH refuses it too
		return ""
	}
	if sshsig.Verify(bytes.NewReader(objects.StripSignatures(raw)), sig, sig.PublicKey, sig.HashAlgorithm,
		signatureNamespace) != nil {
		return ""
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(sig.PublicKey)))
}
