package trial

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-cd/sluice/releases"
)

// Whatever way a value gets into a Secret, it is found, unless it is encrypted, empty, the owner's, or said to be none.
func TestPlainSecrets(t *testing.T) {
	in64 := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	value := "ENC[AES256_GCM,data:eA==,iv:eA==,tag:eA==,type:str]"
	file := `{"data": "` + value + `", "sops": {"mac": "` + value + `"}}`
	text := fmt.Sprintf(`apiVersion: example.com/v1
kind: Odd
metadata: {name: odd, annotations: {n: 1}}
data: [a]
stringData: x
---
[no, object]
---
apiVersion: v1
kind: Secret
metadata: {name: plain}
data: {a: %s, empty: "", odd: not-base64, none: }
stringData: {b: swordfish, number: 7}
---
apiVersion: v1
kind: Secret
metadata: {name: encrypted}
data: {a: %q, file: %s}
stringData: {b: %q}
sops: {mac: %q}
---
apiVersion: v1
kind: Secret
metadata: {name: owners}
data: {url: %s}
stringData: {password: stand-in, fixed: x}
---
apiVersion: v1
kind: Secret
metadata: {name: certificate, annotations: {sluice/plain-secret: allowed}}
data: {ca: eA==}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: secret}
data: {a: b}
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: reference}
spec: {data: [{secretKey: a}]}
`, in64("opensesame"), value, in64(file), value, value, in64("postgres://app:stand-in@db/app"))
	r := &releases.Release{Parameters: map[string]releases.Parameter{
		"password": {Type: "string", Required: true, Owner: releases.OwnerCell},
		"vendors":  {Type: "string", Default: "x"}, "empty": {Type: "string", Owner: releases.OwnerCell, Default: ""},
	}}
	got := plainSecrets(decodeObjects([]byte(text)), ownersTexts(r, map[string]any{"password": "stand-in"}))
	want := []string{"owners: fixed", "plain: a", "plain: b", "plain: number", "plain: odd"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
