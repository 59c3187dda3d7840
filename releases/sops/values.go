package sops

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// macOnlyEncrypted returns what a MAC over encrypted values alone begins with.
func macOnlyEncrypted() []byte {
	return []byte{0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe,
		0xb, 0xb, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69}
}

// decryption is one pass over a file's values, in their order.
type decryption struct {
	metadata                         *metadata
	key                              []byte
	unencryptedRegex, encryptedRegex *regexp.Regexp // nil: there is none
	mac                              hash.Hash
}

// decrypt replaces the encrypted values of documents, and checks that all values are those of the MAC.
func (m *metadata) decrypt(documents []*yaml.Node, key []byte) (err error) {
	d := decryption{metadata: m, key: key, mac: sha512.New()}
	if m.MACOnlyEncrypted {
		d.mac.Write(macOnlyEncrypted())
	}
	if d.unencryptedRegex, err = compile(m.UnencryptedRegex); err != nil {
		return err
	}
	if d.encryptedRegex, err = compile(m.EncryptedRegex); err != nil {
		return err
	}
	for _, document := range documents {
		if err := d.walk(document.Content[0], nil); err != nil {
			return err
		}
	}
	modified, err := time.Parse(time.RFC3339, m.LastModified)
	if err != nil {
		return errors.New("its metadata have no lastmodified")
	}
	want, _, err := open(m.MAC, key, modified.Format(time.RFC3339))
	if err != nil {
		return errors.New("its MAC can't be decrypted: the file was changed after it was encrypted")
	}
	if got := fmt.Sprintf("%X", d.mac.Sum(nil)); subtle.ConstantTimeCompare([]byte(got), want) != 1 {
		return errors.New("its MAC is another than that of its values: the file was changed after it was encrypted")
	}
	return nil
}

func compile(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil
	}
	compiled, err := regexp.Compile(text)
	if err != nil {
		return nil, errors.New("its metadata have a regular expression that is none")
	}
	return compiled, nil
}

// walk decrypts a node and what is below it. Elements of lists have the path of their list.
func (d *decryption) walk(node *yaml.Node, path []string) error {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(node.Content); i += 2 {
			if err := d.walk(node.Content[i+1], append(path[:len(path):len(path)], node.Content[i].Value)); err != nil {
				return err
			}
		}
	case yaml.SequenceNode:
		kept := node.Content[:0]
		for _, element := range node.Content {
			isComment, err := d.element(element, path)
			if err != nil {
				return err
			}
			if !isComment {
				kept = append(kept, element)
			}
		}
		node.Content = kept
	case yaml.ScalarNode:
		_, err := d.scalar(node, path)
		return err
	default:
		return errors.New("has an alias, which SOPS writes nowhere")
	}
	return nil
}

// element walks an element of a list. isComment reports that it is none: JSON has comments of lists as elements.
func (d *decryption) element(node *yaml.Node, path []string) (isComment bool, err error) {
	if node.Kind == yaml.ScalarNode {
		return d.scalar(node, path)
	}
	return false, d.walk(node, path)
}

// isEncrypted reports whether the value with a path is encrypted.
func (d *decryption) isEncrypted(path []string) bool {
	m, encrypted := d.metadata, true
	has := func(matches func(string) bool) bool {
		for _, name := range path {
			if matches(name) {
				return true
			}
		}
		return false
	}
	if m.UnencryptedSuffix != "" && has(func(s string) bool { return strings.HasSuffix(s, m.UnencryptedSuffix) }) {
		encrypted = false
	}
	if m.EncryptedSuffix != "" {
		encrypted = has(func(s string) bool { return strings.HasSuffix(s, m.EncryptedSuffix) })
	}
	if d.unencryptedRegex != nil && has(d.unencryptedRegex.MatchString) {
		encrypted = false
	}
	if d.encryptedRegex != nil {
		encrypted = has(d.encryptedRegex.MatchString)
	}
	return encrypted
}

func (d *decryption) scalar(node *yaml.Node, path []string) (isComment bool, err error) {
	if node.ShortTag() == "!!null" {
		return false, nil
	}
	encrypted := d.isEncrypted(path)
	var plain []byte
	switch {
	case !encrypted:
		if plain, err = plainText(node); err != nil {
			return false, fmt.Errorf("value of %s: %w", strings.Join(path, "."), err)
		}
	case node.ShortTag() != "!!str":
		return false, fmt.Errorf("value of %s is not encrypted", strings.Join(path, "."))
	case node.Value != "": // an empty value stays one
		var kind string
		if plain, kind, err = open(node.Value, d.key, strings.Join(path, ":")+":"); err != nil {
			return false, fmt.Errorf("value of %s: %w", strings.Join(path, "."), err)
		}
		if kind == "comment" {
			return true, nil
		}
		if plain, err = setScalar(node, plain, kind); err != nil {
			return false, fmt.Errorf("value of %s: %w", strings.Join(path, "."), err)
		}
	}
	if encrypted || !d.metadata.MACOnlyEncrypted {
		d.mac.Write(plain)
	}
	return false, nil
}

// open decrypts a value. additional is what it was bound to.
func open(text string, key []byte, additional string) (plain []byte, kind string, err error) {
	rest, ok := strings.CutPrefix(text, encodedPrefix)
	rest, closed := strings.CutSuffix(rest, "]")
	if !ok || !closed {
		return nil, "", errors.New("it is not encrypted")
	}
	part := map[string][]byte{}
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(field, ":")
		if name == "type" {
			kind = value
			continue
		}
		if part[name], err = base64.StdEncoding.DecodeString(value); err != nil {
			return nil, "", errors.New("it is damaged")
		}
	}
	const mostNonce = 64
	block, err := aes.NewCipher(key)
	if err != nil || len(part["iv"]) == 0 || len(part["iv"]) > mostNonce {
		return nil, "", errors.New("it is damaged")
	}
	gcm, err := cipher.NewGCMWithNonceSize(block, len(part["iv"]))
	if err != nil {
		return nil, "", errors.New("it is damaged")
	}
	plain, err = gcm.Open(nil, part["iv"], append(part["data"], part["tag"]...), []byte(additional))
	if err != nil {
		return nil, "", errors.New("it was changed, or moved, after it was encrypted")
	}
	return plain, kind, nil
}

// plainText returns a value that was not encrypted, as the MAC has it.
func plainText(node *yaml.Node) ([]byte, error) {
	var value any
	if err := node.Decode(&value); err != nil {
		return nil, errors.New("it can't be read")
	}
	switch value := value.(type) {
	case string:
		return []byte(value), nil
	case int:
		return []byte(strconv.Itoa(value)), nil
	case float64:
		return formatFloat(value), nil
	case bool:
		return formatBool(value), nil
	case time.Time:
		return value.MarshalText()
	}
	return nil, errors.New("it is of a type that SOPS does not write")
}

func formatFloat(value float64) []byte { return strconv.AppendFloat(nil, value, 'f', -1, 64) }

func formatBool(value bool) []byte {
	if value {
		return []byte("True")
	}
	return []byte("False")
}

// setScalar gives a node a decrypted value of a type of SOPS, and returns it as the MAC has it.
func setScalar(node *yaml.Node, plain []byte, kind string) ([]byte, error) {
	node.Style, node.Value = 0, string(plain)
	wrong := errors.New("it is not of its type")
	switch kind {
	case "str", "bytes":
		if !utf8.Valid(plain) {
			node.Tag, node.Value = "!!binary", base64.StdEncoding.EncodeToString(plain)
			return plain, nil
		}
		node.Tag = "!!str"
		return plain, nil
	case "int":
		n, err := strconv.Atoi(node.Value)
		if err != nil {
			return nil, wrong
		}
		node.Tag = "!!int"
		return []byte(strconv.Itoa(n)), nil
	case "float":
		f, err := strconv.ParseFloat(node.Value, 64)
		if err != nil {
			return nil, wrong
		}
		node.Tag = "!!float"
		return formatFloat(f), nil
	case "bool":
		b, err := strconv.ParseBool(node.Value)
		if err != nil {
			return nil, wrong
		}
		node.Tag, node.Value = "!!bool", strconv.FormatBool(b)
		return formatBool(b), nil
	case "time":
		var at time.Time
		if at.UnmarshalText(plain) != nil {
			return nil, wrong
		}
		node.Tag = "!!timestamp"
		return at.MarshalText()
	}
	return nil, fmt.Errorf("its type %q is none that SOPS writes", kind)
}

func writeYAML(documents []*yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	for _, document := range documents {
		if err := encoder.Encode(document); err != nil {
			return nil, errors.New("can't be written as YAML")
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, errors.New("can't be written as YAML")
	}
	return out.Bytes(), nil
}

// writeJSON writes a node as JSON, in its order.
func writeJSON(node *yaml.Node) ([]byte, error) {
	switch node.Kind {
	case yaml.MappingNode, yaml.SequenceNode:
		isMap := node.Kind == yaml.MappingNode
		out := []byte{'['}
		if isMap {
			out[0] = '{'
		}
		for i, child := range node.Content {
			switch {
			case isMap && i%2 == 1:
				out = append(out, ':')
			case i > 0:
				out = append(out, ',')
			}
			text, err := writeJSON(child)
			if err != nil {
				return nil, err
			}
			out = append(out, text...)
		}
		if isMap {
			return append(out, '}'), nil
		}
		return append(out, ']'), nil
	}
	if tag := node.ShortTag(); tag == "!!int" || tag == "!!float" || tag == "!!bool" {
		return []byte(node.Value), nil
	} else if tag == "!!null" {
		return []byte("null"), nil
	}
	return json.Marshal(node.Value)
}

// anyContent returns the content of a file that is neither YAML nor JSON: SOPS keeps it as the one value data.
func anyContent(root *yaml.Node) ([]byte, error) {
	if root.Kind != yaml.MappingNode || len(root.Content) != 2 || root.Content[0].Value != "data" {
		return nil, errors.New("its name ends neither in .yaml nor .json, so its content must be in the one value data")
	}
	value := root.Content[1]
	if value.ShortTag() == "!!binary" {
		return base64.StdEncoding.DecodeString(value.Value)
	}
	return []byte(value.Value), nil
}
