package sops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"go.yaml.in/yaml/v3"
)

const (
	metadataKey   = "sops"
	encodedPrefix = "ENC[AES256_GCM,"
	maxFile       = 4 << 20 // bytes
	maxKeys       = 100     // that a file is encrypted for

	// defaultUnencrypted is the suffix of values that are not encrypted, in a file that names no rule.
	defaultUnencrypted = "_unencrypted"
	dataKeySize        = 32
)

// Keys are the age identities that decrypt.
type Keys []age.Identity

// ParseKeys reads age identities, a line each, as age-keygen writes them.
func ParseKeys(text []byte) (Keys, error) {
	keys, err := age.ParseIdentities(bytes.NewReader(text))
	if err != nil { // not passed on: it may quote a line
		return nil, errors.New("these are no age identities: a line for each begins with AGE-SECRET-KEY-")
	}
	return keys, nil
}

// NoKeyError says that none of the keys decrypts a file.
type NoKeyError struct{ Recipients []string }

func (e *NoKeyError) Error() string {
	return "it is encrypted for " + strings.Join(e.Recipients, ", ") + ", and there is no key for any of them"
}

// metadata is what SOPS adds to a file, as far as it is needed.
type metadata struct {
	Age []struct {
		Recipient string `yaml:"recipient"`
		Enc       string `yaml:"enc"`
	} `yaml:"age"`
	KeyGroups               []yaml.Node `yaml:"key_groups"`
	ShamirThreshold         int         `yaml:"shamir_threshold"`
	LastModified            string      `yaml:"lastmodified"`
	MAC                     string      `yaml:"mac"`
	UnencryptedSuffix       string      `yaml:"unencrypted_suffix"`
	EncryptedSuffix         string      `yaml:"encrypted_suffix"`
	UnencryptedRegex        string      `yaml:"unencrypted_regex"`
	EncryptedRegex          string      `yaml:"encrypted_regex"`
	UnencryptedCommentRegex string      `yaml:"unencrypted_comment_regex"`
	EncryptedCommentRegex   string      `yaml:"encrypted_comment_regex"`
	MACOnlyEncrypted        bool        `yaml:"mac_only_encrypted"`
}

// IsEncrypted reports whether a file looks like one that SOPS encrypted, in any of its formats.
func IsEncrypted(content []byte) bool {
	if !bytes.Contains(content, []byte(encodedPrefix)) {
		return false
	}
	if bytes.Contains(content, []byte("sops_mac=")) || bytes.Contains(content, []byte("\n[sops]\n")) {
		return true
	}
	documents, err := parse(content)
	return err == nil && findMetadata(documents) != nil
}

// IsEncryptedValue reports whether a text is a value that SOPS encrypted.
func IsEncryptedValue(text string) bool { return strings.HasPrefix(text, encodedPrefix) }

// Decrypt returns the content of an encrypted file, without what SOPS added. The name says which format it has:
// .yaml, .yml or .json; another has any content. A *NoKeyError says that none of the keys is for the file; another
// error says what is wrong with the file itself.
func Decrypt(name string, content []byte, keys Keys) ([]byte, error) {
	format := strings.ToLower(path.Ext(name))
	if len(content) > maxFile {
		return nil, fmt.Errorf("is larger than %d bytes", maxFile)
	}
	if bytes.Contains(content, []byte("sops_mac=")) || bytes.Contains(content, []byte("\n[sops]\n")) {
		return nil, errors.New("is of a format that is not read: let sops encrypt it as YAML or JSON, or with " +
			"--input-type binary")
	}
	documents, err := parse(content)
	if err != nil {
		return nil, err
	}
	node := findMetadata(documents) // if there is one, there are documents
	if node == nil {
		return nil, errors.New("has no metadata of SOPS")
	}
	var m metadata
	if err := node.Decode(&m); err != nil {
		return nil, errors.New("its metadata are not those of SOPS")
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	key, err := m.dataKey(keys)
	if err != nil {
		return nil, err
	}
	for _, document := range documents {
		removeMetadata(document)
	}
	if err := m.decrypt(documents, key); err != nil {
		return nil, err
	}
	switch format {
	case ".yaml", ".yml":
		return writeYAML(documents)
	case ".json":
		return writeJSON(documents[0].Content[0])
	}
	return anyContent(documents[0].Content[0])
}

// parse returns the documents of a file, which is YAML, or JSON, which is YAML too.
func parse(content []byte) (documents []*yaml.Node, err error) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var document yaml.Node
		switch err := decoder.Decode(&document); {
		case errors.Is(err, io.EOF):
			return documents, nil
		case err != nil:
			return nil, errors.New("is neither YAML nor JSON")
		}
		if len(document.Content) > 0 {
			documents = append(documents, &document)
		}
	}
}

// findMetadata returns what SOPS added to a file; nil: nothing.
func findMetadata(documents []*yaml.Node) *yaml.Node {
	for _, document := range documents {
		root := document.Content[0]
		for i := 0; root.Kind == yaml.MappingNode && i < len(root.Content); i += 2 {
			value := root.Content[i+1]
			if root.Content[i].Value == metadataKey && value.Kind == yaml.MappingNode && hasKey(value, "mac") {
				return value
			}
		}
	}
	return nil
}

func hasKey(mapping *yaml.Node, name string) bool {
	for i := 0; i < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name {
			return true
		}
	}
	return false
}

// removeMetadata removes what SOPS added to a document.
func removeMetadata(document *yaml.Node) {
	root := document.Content[0]
	if root.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i < len(root.Content); i += 2 {
		if root.Content[i].Value == metadataKey {
			root.Content = append(root.Content[:i:i], root.Content[i+2:]...)
			return
		}
	}
}

// check refuses what is not read, and sets the default rule.
func (m *metadata) check() error {
	rules := 0
	for _, rule := range []string{m.UnencryptedSuffix, m.EncryptedSuffix, m.UnencryptedRegex, m.EncryptedRegex} {
		if rule != "" {
			rules++
		}
	}
	if rules == 0 {
		m.UnencryptedSuffix = defaultUnencrypted
	}
	switch {
	case rules > 1:
		return errors.New("has several rules for what is encrypted, where SOPS writes one")
	case len(m.Age) == 0 || len(m.KeyGroups) > 0 || m.ShamirThreshold > 0:
		return errors.New("is encrypted for no age key, or for several groups of keys: sops --age encrypts for age alone")
	case len(m.Age) > maxKeys:
		return fmt.Errorf("is encrypted for more than %d keys", maxKeys)
	case m.UnencryptedCommentRegex != "" || m.EncryptedCommentRegex != "":
		return errors.New("is encrypted by rules on comments, which are not read: use encrypted_regex")
	}
	return nil
}

// dataKey returns the key with which the file's values are encrypted.
func (m *metadata) dataKey(keys Keys) ([]byte, error) {
	none := &NoKeyError{}
	for _, recipient := range m.Age {
		none.Recipients = append(none.Recipients, recipient.Recipient)
		if len(keys) == 0 {
			continue
		}
		text, err := age.Decrypt(armor.NewReader(strings.NewReader(recipient.Enc)), keys...)
		if _, foreign := errors.AsType[*age.NoIdentityMatchError](err); foreign {
			continue
		}
		if err != nil {
			return nil, errors.New("the key in its metadata is damaged")
		}
		key, err := io.ReadAll(io.LimitReader(text, dataKeySize+1))
		if err != nil || len(key) != dataKeySize {
			return nil, errors.New("the key in its metadata is damaged")
		}
		return key, nil
	}
	return nil, none
}
