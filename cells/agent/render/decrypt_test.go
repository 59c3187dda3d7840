package render

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/releases"
)

// sopsFile returns a file of the tests of releases/sops.
func sopsFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../../releases/sops/testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What SOPS encrypted is decrypted before kustomize sees it, as a resource and in a generator. Without a key the owner
// is told; a file that was changed is the release's fault; whoever leaves it encrypted needs no key.
func TestDecryptRelease(t *testing.T) {
	files := map[string]string{
		"release.yaml": "apiVersion: sluice/v1\nkind: Release\nversion: 1.0.0\n",
		"kustomization.yaml": "namespace: cell\nresources: [secret.yaml]\n" +
			"secretGenerator: [{name: token, files: [token.bin]}]\n",
		"secret.yaml": sopsFile(t, "encrypted/secret.yaml"), "token.bin": sopsFile(t, "encrypted/token.bin"),
	}
	r, a := newRenderer(t, files)
	r.keyFile = filepath.Join(t.TempDir(), "keys")
	_, err := r.Render(t.Context(), a)
	missing, ok := errors.AsType[*releases.OwnerValuesError](err)
	if !ok || !strings.Contains(missing.Reason, "a key for secret.yaml") || !strings.Contains(missing.Reason, "age1") {
		t.Fatalf("without a key: %v", err)
	}
	writeKeys := func(text string) {
		if err := os.WriteFile(r.keyFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeKeys("swordfish")
	if _, err := r.Render(t.Context(), a); !errors.As(err, &missing) || strings.Contains(err.Error(), "swordfish") {
		t.Errorf("with what is no key: %v", err)
	}
	writeKeys(strings.Repeat("#\n", maxKeyFile))
	if _, err := r.Render(t.Context(), a); !errors.As(err, new(*cells.UnavailableError)) {
		t.Errorf("with too large a file: %v", err)
	}
	writeKeys("AGE-SECRET-" + sopsFile(t, "first.key"))
	m, err := r.Render(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	all := string(m.Files[ManifestsFile])
	for _, text := range []string{"url: postgres://app:s3cr=t@db/app?a=b,c\n", `digits: "0123"`, "namespace: cell\n",
		base64.StdEncoding.EncodeToString([]byte(sopsFile(t, "plain/token.bin")))} {
		if !strings.Contains(all, text) {
			t.Errorf("%q is missing in\n%s", text, all)
		}
	}
	if strings.Contains(all, "ENC[AES256_GCM,data:") && !strings.Contains(all, "ENC[AES256_GCM,data:x]") ||
		strings.Contains(all, "sops:") {
		t.Errorf("something is encrypted still:\n%s", all)
	}

	r.encrypted, r.keyFile = true, ""
	if m, err = r.Render(t.Context(), a); err != nil || !strings.Contains(string(m.Files[ManifestsFile]), "sops:") {
		t.Errorf("left encrypted: %v", err)
	}

	files["secret.yaml"] = strings.Replace(files["secret.yaml"], "name: app", "name: other", 1)
	keyFile := filepath.Join(t.TempDir(), "keys")
	r, a = newRenderer(t, files)
	r.keyFile = keyFile
	writeKeys("AGE-SECRET-" + sopsFile(t, "first.key"))
	_, err = r.Render(t.Context(), a)
	if cells.CauseOf(err) != cells.CauseRelease || !strings.Contains(err.Error(), "changed after it was encrypted") {
		t.Errorf("a changed file: %v (%s)", err, cells.CauseOf(err))
	}
}
