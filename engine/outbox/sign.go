package outbox

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// secretPrefix begins the secrets of Standard Webhooks.
const secretPrefix = "whsec_"

// sign sets the headers of Standard Webhooks: the event's constant id, the time of sending, and a signature for each
// secret. https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
func sign(h http.Header, event string, at time.Time, body []byte, secrets string) error {
	keys, err := parseSecrets(secrets)
	if err != nil {
		return err
	}
	id, stamp := MessageID(event), strconv.FormatInt(at.Unix(), 10)
	var signatures []string
	for _, key := range keys {
		signatures = append(signatures, signature(key, id, stamp, body))
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", stamp)
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
	return nil
}

func signature(key []byte, id, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// MessageID returns the id of an event's messages, the same for every attempt, by which receivers recognise
// repetitions.
func MessageID(event string) string {
	sum := sha256.Sum256([]byte(event))
	return "msg_" + hex.EncodeToString(sum[:16])
}

// CheckSecret returns an error if a webhook's secret is invalid.
func CheckSecret(secrets string) error {
	_, err := parseSecrets(secrets)
	return err
}

// parseSecrets parses secrets separated by spaces: messages are signed with two while one replaces the other.
func parseSecrets(secrets string) ([][]byte, error) {
	var keys [][]byte
	for _, one := range strings.Fields(secrets) {
		text, ok := strings.CutPrefix(one, secretPrefix)
		key, err := base64.StdEncoding.DecodeString(text)
		if !ok || err != nil || len(key) < 24 || len(key) > 64 {
			return nil, errors.New("a webhook's secret is whsec_ and 24 to 64 random bytes in base64")
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("the webhook has no secret")
	}
	return keys, nil
}
