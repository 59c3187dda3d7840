package sops

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// secondKey is for tests alone. It is cut in two so that nobody who looks for keys takes it for a real one; so is the
// first one, in testdata.
const secondKey = "AGE-SECRET-" + "KEY-1C8HRRANF0TL32AUQ2AQ45H577WGHTXZ4GX6C3PR5JFDTM0GQMJRQZJUCML"

func firstKey(t testing.TB) string { return "AGE-SECRET-" + string(read(t, "first.key")) }

func keys(t testing.TB, text ...string) Keys {
	t.Helper()
	all, err := ParseKeys([]byte("# for tests\n" + strings.Join(text, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func read(t testing.TB, path ...string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// values returns what a file holds, as a program reads it.
func values(t *testing.T, name string, content []byte) (all []any) {
	t.Helper()
	if filepath.Ext(name) == ".json" && !json.Valid(content) {
		t.Errorf("%s is no JSON: %s", name, content)
	}
	if ext := filepath.Ext(name); ext != ".yaml" && ext != ".json" {
		return []any{string(content)}
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var value any
		if err := decoder.Decode(&value); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, content)
		}
		all = append(all, value)
	}
}

func encrypted(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("testdata/encrypted")
	if err != nil || len(entries) < 10 {
		t.Fatal(len(entries), err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// What SOPS encrypted is what it was, value by value and type by type.
func TestDecrypt(t *testing.T) {
	for _, name := range encrypted(t) {
		content := read(t, "encrypted", name)
		if !IsEncrypted(content) || IsEncrypted(read(t, "plain", name)) {
			t.Errorf("%s: is it encrypted?", name)
		}
		got, err := Decrypt(name, content, keys(t, firstKey(t)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(values(t, name, read(t, "plain", name)), values(t, name, got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if bytes.Contains(got, []byte("sops:")) || IsEncrypted(got) {
			t.Errorf("%s keeps what SOPS added:\n%s", name, got)
		}
	}
}

// Any of the recipients' keys is enough; without one, the recipients are named.
func TestKeys(t *testing.T) {
	several, one := read(t, "encrypted", "several.yaml"), read(t, "encrypted", "two.yaml")
	for _, all := range []Keys{keys(t, firstKey(t)), keys(t, secondKey), keys(t, secondKey, firstKey(t))} {
		if _, err := Decrypt("several.yaml", several, all); err != nil {
			t.Error(err)
		}
	}
	for _, none := range []Keys{nil, keys(t, secondKey)} {
		_, err := Decrypt("two.yaml", one, none)
		missing, ok := errors.AsType[*NoKeyError](err)
		if !ok || len(missing.Recipients) != 1 || !strings.HasPrefix(missing.Recipients[0], "age1") {
			t.Errorf("without a key: %v", err)
		}
	}
	for _, text := range []string{"", "# none", "AGE-SECRET-" + "KEY-1QQQ", "swordfish"} {
		if _, err := ParseKeys([]byte(text)); err == nil || strings.Contains(err.Error(), "swordfish") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Nothing that was changed, moved, removed or added after the file was encrypted is taken, also outside the values that
// are encrypted, but for what mac_only_encrypted leaves out.
func TestTampered(t *testing.T) {
	all := keys(t, firstKey(t))
	value := regexp.MustCompile(`ENC\[AES256_GCM,[^\]]*type:[a-z]+\]`)
	for _, name := range encrypted(t) {
		content := string(read(t, "encrypted", name))
		found := value.FindAllString(content, -1)
		variants := map[string]string{}
		for i, v := range found {
			if strings.HasSuffix(v, "type:comment]") {
				continue
			}
			variants["a changed value"] = strings.Replace(content, v, strings.Replace(v, "data:", "data:AA", 1), 1)
			if i > 0 && !strings.HasSuffix(found[0], "type:comment]") {
				variants["swapped values"] = strings.NewReplacer(found[0], v, v, found[0]).Replace(content)
				variants["a value twice"] = strings.Replace(content, found[0], v, 1)
			}
			variants["a value in plain"] = strings.Replace(content, v, "plain", 1)
			variants["an emptied value"] = strings.Replace(content, v, `""`, 1)
			if i < len(found)-1 {
				variants["another type"] = strings.Replace(content, v, regexp.MustCompile(`type:\w+`).
					ReplaceAllString(v, "type:odd"), 1)
			}
		}
		variants["another time"] = strings.Replace(content, `lastmodified": "20`, `lastmodified": "19`, 1)
		if variants["another time"] == content {
			variants["another time"] = strings.Replace(content, `lastmodified: "20`, `lastmodified: "19`, 1)
		}
		variants["cut short"] = content[:len(content)/2]
		if name == "secret.yaml" || name == "two.yaml" {
			variants["another kind"] = strings.Replace(content, "kind: Secret", "kind: ConfigMap", 1)
			variants["another name"] = strings.Replace(content, "name: ", "name: x", 1)
			variants["another rule"] = strings.Replace(content, "(data|", "(", 1)
		}
		for what, changed := range variants {
			if changed == content {
				t.Errorf("%s: %s is no change", name, what)
			}
			if name == "two.yaml" && what == "another rule" {
				continue // it has no data
			}
			if got, err := Decrypt(name, []byte(changed), all); err == nil {
				t.Errorf("%s with %s was taken: %s", name, what, got)
			}
		}
	}
	only := strings.Replace(string(read(t, "encrypted", "mac.yaml")), "namespace: shop", "namespace: other", 1)
	if _, err := Decrypt("mac.yaml", []byte(only), all); err != nil {
		t.Errorf("mac_only_encrypted: %v", err)
	}
}

// What is not read is refused by name.
func TestNotRead(t *testing.T) {
	all := keys(t, firstKey(t))
	enc := read(t, "encrypted", "secret.yaml")
	for name, c := range map[string]struct{ content, want string }{
		"comment.yaml": {string(read(t, "comment.yaml")), "rules on comments"},
		"a.env":        {"A=ENC[AES256_GCM,data:x]\nsops_mac=ENC[AES256_GCM,x]\n", "of a format that is not read"},
		"a.ini":        {"[a]\nb = ENC[AES256_GCM,data:x]\n[sops]\nmac = x\n", "of a format that is not read"},
		"kms.yaml":     {"a: ENC[AES256_GCM,x]\nsops: {mac: x, kms: [{arn: x}]}\n", "for no age key"},
		"groups.yaml":  {"a: ENC[AES256_GCM,x]\nsops: {mac: x, key_groups: [{}, {}]}\n", "several groups"},
		"odd.yaml":     {"a: ENC[AES256_GCM,x]\nsops: {mac: [x]}\n", "not those of SOPS"},
		"no-sops.yaml": {"a: ENC[AES256_GCM,x]\n", "no metadata"},
		"large.yaml":   {string(enc) + strings.Repeat("# x\n", maxFile/4), "larger than"},
		"alias.yaml":   {strings.Replace(string(enc), "name: app", "name: &x app\n    other: *x", 1), "alias"},
		"secret.txt":   {string(enc), "in the one value data"},
		"rules.yaml": {strings.Replace(string(enc), "sops:\n", "sops:\n    encrypted_suffix: x\n", 1),
			"several rules"},
		"nothing.yaml":  {"", "no metadata"},
		"neither.yaml":  {"a: [ENC[AES256_GCM,\n", "neither YAML nor JSON"},
		"sequence.yaml": {"[a]\n", "no metadata"},
	} {
		if _, err := Decrypt(name, []byte(c.content), all); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// Whatever a file holds, it ends in a content or in an error, and without a key never in a content.
func FuzzDecrypt(f *testing.F) {
	for _, name := range encrypted(f) {
		f.Add(name, read(f, "encrypted", name))
	}
	all := keys(f, firstKey(f))
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		_, _ = Decrypt(name, content, all)
		if _, err := Decrypt(name, content, nil); err == nil {
			t.Error("decrypted without a key")
		}
		IsEncrypted(content)
	})
}
