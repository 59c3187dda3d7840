-- What a store of schema 5 holds in mid-rollout, brought up from schema 1, whose cells have not reported since: written as the version that had it did.
INSERT INTO facts (name, body) VALUES
    ('since', '2026-11-01T08:00:00Z'),
    ('seen', '"77aa"'),
    ('diverged', '{"Seen":"4f0c","Tip":"77aa","At":"2026-11-24T12:00:00Z"}');
INSERT INTO cells (name, channel, release, state, last_report, body) VALUES
    ('acme', 'staging', '1.0.3', 'healthy', 1795521600000, '{"Name":"acme","Channel":"staging","Epoch":1,"Sequence":3,"Release":"1.0.3","Digest":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","State":"healthy","Message":"all well","HealthySince":"2026-11-24T11:00:00Z","Soaked":3600000000000,"LastReport":"2026-11-24T12:00:00Z","Skew":-3000000000,"Infrastructure":7,"Running":{"channel":"staging","epoch":1,"sequence":3,"release":"1.0.3","digest":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","values":{"big":9007199254740993}},"Applying":null,"Granted":null,"GrantedAt":"0001-01-01T00:00:00Z","Taken":"","StartedAt":"0001-01-01T00:00:00Z","Failures":null}'),
    ('bolt', 'dedicated', '', 'pending', 1795521600000, '{"Name":"bolt","Channel":"dedicated","State":"pending","LastReport":"2026-11-24T12:00:00Z"}');
INSERT INTO events (cell, boot, number, body) VALUES
    ('acme', 'b1', 1, '{"number":1,"at":"2026-11-24T11:00:00Z","kind":"started"}'),
    ('acme', 'b1', 2, '{"number":2,"at":"2026-11-24T11:01:00Z","kind":"applied"}');
INSERT INTO grants (cell, epoch, sequence, assignment, granted_at) VALUES
    ('acme', 1, 4, '{"channel":"staging","epoch":1,"sequence":4,"release":"1.0.4","digest":"sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a"}', '2026-11-24T12:00:00Z'),
    ('newcomer', 1, 4, '{"channel":"staging","epoch":1,"sequence":4,"release":"1.0.4","digest":"sha256:4b227777d4dd1fc61c6f884f48641d02b4d121d3fd328cb08b5531fcacdabf8a"}', '2026-11-24T12:00:00Z');
INSERT INTO observations (channel, gate, subject, policy, observed_at, valid_until, body) VALUES
    ('dedicated', 'check', 'x', 'p', 1795521600000, 0, '{"channel":"dedicated","gate":"check","subject":"x","policy":"p","holds":true,"observedAt":"2026-11-24T12:00:00Z"}');
INSERT INTO acceptances (upstream, downstream, digest, body) VALUES
    ('staging', 'dedicated', 'sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce', '{"upstream":"staging","downstream":"dedicated","release":"1.0.3","digest":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","at":"2026-11-24T12:00:00Z","evidence":"2 of 2 cells"}');
INSERT INTO finishes (channel, sequence, body) VALUES
    ('staging', 3, '{"channel":"staging","sequence":3,"digest":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","at":"2026-11-24T12:00:00Z"}');
INSERT INTO rollouts (channel, sequence, body) VALUES
    ('staging', 4, '{"channel":"staging","sequence":4,"since":"2026-11-24T12:00:00Z","eligible":["acme"]}');
INSERT INTO served (channel, sequence) VALUES ('staging', 4), ('dedicated', 41);
INSERT INTO decisions (commit_id, announced, body) VALUES
    ('c1', 1, '{"commit":"c1","kind":"promote","channel":"staging","release":"1.0.3","digest":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","sequence":3,"at":"2026-11-24T10:00:00Z"}'),
    ('c2', 0, '{"commit":"c2","kind":"promote","channel":"staging","release":"1.0.4","digest":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","sequence":4,"replaces":"1.0.3","at":"2026-11-24T12:00:00Z"}');
INSERT INTO refusals (channel, body) VALUES ('dedicated', '{"Reason":"hook","Until":"2026-11-24T12:05:00Z"}');
INSERT INTO joins (hash, cell, serial, made_by, created, expires, used_by) VALUES ('open', 'bolt', 0, 'ada', 1795521600000, 4102444800000, NULL);
INSERT INTO lease (id, term, holder, watched, since, until) VALUES (1, 12, 'a store that is gone', 0, 1795521600000, 1795521610000);
INSERT INTO waves (channel, sequence, wave, body) VALUES
    ('staging', 4, 1, '{"channel":"staging","sequence":4,"digest":"sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce","wave":1,"at":"2026-11-24T12:00:00Z"}');
INSERT INTO slots (channel, cell, taken_at) VALUES ('staging', 'acme', 1795521600000), ('staging', 'newcomer', 1795521600000);
INSERT INTO registrations (cell, serial, body) VALUES
    ('acme', 2, '{"cell":"acme","identity":{"apiVersion":"sluice/v1","kind":"Identity","epoch":1,"serial":2,"publicKey":"ed25519:AAAA"},"by":"token of ada","at":"2026-11-24T12:00:00Z"}');
INSERT INTO operators (name, role, hash, created, expires) VALUES ('ada', 'admin', 'of-ada', 1795521600000, 0);
INSERT INTO audit (body) VALUES ('{"at":"2026-11-24T12:00:00Z","who":"ada","what":"added cell bolt","from":"127.0.0.1"}');
INSERT INTO kills (flag, id, landed, body) VALUES ('gateway', 'k1', 0, '{"id":"k1","at":"2026-11-24T12:00:00Z","override":{"apiVersion":"sluice/v1","kind":"Kill","flag":"gateway","reason":"broken","name":"kill-gateway"}}');
INSERT INTO posted (event, at) VALUES ('killed/gateway', 1795521600000);
INSERT INTO outbox (event, webhook, posted, next, body) VALUES ('killed/gateway', 'chat', 1795521600000, 1795521600000, '{"event":{"id":"killed/gateway","type":"killed","flag":"gateway","at":"2026-11-24T12:00:00Z","text":"gateway was killed"},"webhook":"chat","posted":"2026-11-24T12:00:00Z","next":"2026-11-24T12:00:00Z","attempts":0}');
INSERT INTO records (kind, key, version, updated, body) VALUES ('session', 'of-ada', 7009, 1795521600000, '{"name":"ada"}');
