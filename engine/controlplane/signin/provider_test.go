package signin

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// hostileProvider is an OpenID Connect provider that answers whatever a test wants.
type hostileProvider struct {
	*httptest.Server
	mu        sync.Mutex // guards the fields below
	key       *rsa.PrivateKey
	kid       string
	claims    map[string]any // of the next ID token; nil values are left out
	raw       string         // in place of the signed ID token; empty: none
	noID      bool           // there is no ID token
	noRefresh bool
	refused   string // error of the token endpoint; empty: none
	down      bool
	userInfo  map[string]any
	metadata  map[string]any // further metadata
	forms     []url.Values   // what the token endpoint was asked
	keyReads  int
	refreshes int
}

func newHostileProvider(t *testing.T) *hostileProvider {
	t.Helper()
	h := &hostileProvider{claims: map[string]any{}, metadata: map[string]any{},
		userInfo: map[string]any{"sub": "ada"}}
	h.rotate(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		doc := map[string]any{"issuer": h.URL, "authorization_endpoint": h.URL + "/authorize",
			"token_endpoint": h.URL + "/token", "jwks_uri": h.URL + "/keys", "userinfo_endpoint": h.URL + "/userinfo",
			"revocation_endpoint": h.URL + "/revoke", "device_authorization_endpoint": h.URL + "/device",
			"id_token_signing_alg_values_supported": []string{"RS256", "HS256", "none"},
			"scopes_supported":                      []string{"openid", "email", "groups", "offline_access", "address"}}
		maps.Copy(doc, h.metadata)
		h.answer(w, doc)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		h.mu.Lock()
		h.keyReads++
		set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: h.key.Public(), KeyID: h.kid, Algorithm: "RS256",
			Use: "sig"}}}
		h.mu.Unlock()
		h.answer(w, set)
	})
	mux.HandleFunc("/userinfo", func(w http.ResponseWriter, _ *http.Request) { h.answer(w, h.userInfo) })
	mux.HandleFunc("/revoke", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) { h.serveToken(t, w, r) })
	mux.HandleFunc("/device", func(w http.ResponseWriter, _ *http.Request) {
		h.answer(w, map[string]any{"device_code": "dc", "user_code": "ABCD", "verification_uri": h.URL + "/activate",
			"expires_in": 600, "interval": 5})
	})
	h.Server = httptest.NewTLSServer(mux)
	t.Cleanup(h.Close)
	return h
}

func (h *hostileProvider) answer(w http.ResponseWriter, doc any) {
	h.mu.Lock()
	down := h.down
	h.mu.Unlock()
	if down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(doc)
}

// rotate replaces the provider's key.
func (h *hostileProvider) rotate(t *testing.T) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.key, h.kid = key, h.kid+"k"
}

// say sets claims of the next ID tokens; nil leaves one out.
func (h *hostileProvider) say(claims map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.Copy(h.claims, claims)
}

func (h *hostileProvider) idToken(t *testing.T) string {
	t.Helper()
	now := time.Now()
	all := map[string]any{"iss": h.URL, "aud": "sluice", "sub": "ada", "iat": now.Unix(),
		"exp": now.Add(5 * time.Minute).Unix()}
	maps.Copy(all, h.claims)
	for name, v := range all {
		if in, ok := v.(time.Duration); ok { // of an instant: from the moment at which the token is made
			all[name] = now.Add(in).Unix()
		}
	}
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		t.Error(err)
	}
	return signJWT(t, jose.RS256, h.key, h.kid, payload)
}

func signJWT(t *testing.T, alg jose.SignatureAlgorithm, key any, kid string, payload []byte) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Error(err)
		return ""
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Error(err)
	}
	return text
}

func (h *hostileProvider) serveToken(t *testing.T, w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	_ = r.ParseForm()
	h.forms = append(h.forms, r.PostForm)
	if h.refused != "" && !h.down {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": h.refused, "error_description": "no\x1b[31m"})
		h.mu.Unlock()
		return
	}
	doc := map[string]any{"access_token": "at", "token_type": "Bearer", "expires_in": 300}
	switch {
	case h.noID:
	case h.raw != "":
		doc["id_token"] = h.raw
	default:
		doc["id_token"] = h.idToken(t)
	}
	if !h.noRefresh {
		h.refreshes++
		doc["refresh_token"] = fmt.Sprintf("rt%d", h.refreshes)
	}
	h.mu.Unlock()
	h.answer(w, doc)
}

// forge returns ID tokens that no provider signed.
func (h *hostileProvider) forge(t *testing.T, how, nonce string) string {
	t.Helper()
	now := time.Now()
	payload := []byte(fmt.Sprintf(`{"iss":%q,"aud":"sluice","sub":"ada","iat":%d,"exp":%d,"nonce":%q,"groups":["managers"]}`,
		h.URL, now.Unix(), now.Add(time.Minute).Unix(), nonce))
	encode := base64.RawURLEncoding.EncodeToString
	der, err := x509.MarshalPKIXPublicKey(h.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	switch how {
	case "alg none":
		return encode([]byte(`{"alg":"none"}`)) + "." + encode(payload) + "."
	case "alg None, with a signature":
		return encode([]byte(`{"alg":"None"}`)) + "." + encode(payload) + "." + encode([]byte("x"))
	case "HS256 with the public key":
		return signJWT(t, jose.HS256, der, h.kid, payload)
	case "HS256 with the client's secret":
		return signJWT(t, jose.HS256, []byte(strings.Repeat("s", 32)), h.kid, payload)
	case "another's key under the same id":
		return signJWT(t, jose.RS256, other, h.kid, payload)
	case "a changed payload":
		parts := strings.Split(h.idToken(t), ".")
		return parts[0] + "." + encode(payload) + "." + parts[2]
	case "no JWT":
		return "x.y.z"
	}
	t.Fatal(how)
	return ""
}
