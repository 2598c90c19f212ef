"""Which requests are signed for a time or for one use: the kind is recognized, in every scheme that is known."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import requests
from requests.auth import HTTPDigestAuth

from celery_ezthrottle.http.requests_adapter import REQUESTS
from celery_ezthrottle.policy.signed import is_signed

URL = "https://api.example.com/charges"
MD5 = "5d41402abc4b2a76b9719d911017c592"
HEX = "f16e6f2a7d7e4f7b8f31c3f2d7a0f4a0c5b7ee0f1b1a9d8c7e6f5a4b3c2d1e0f"
B64 = "ctzMq410TV3wS7upTBcunJTDLEJwMAZuFPfr0mrrA08="
SECONDS, MILLIS = "1767323045", "1767323045123"
ISO, BASIC, HTTP = "2026-01-02T03:04:05.678Z", "20260102T030405Z", "Fri, 02 Jan 2026 03:04:05 GMT"


def packed(**claims: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).decode().rstrip("=")


def jwt(**claims: Any) -> str:
    return f"{packed(alg='ES256')}.{packed(**claims)}.{B64.rstrip('=')}"


def digest() -> HTTPDigestAuth:
    """After a challenge."""
    auth = HTTPDigestAuth("user", "pw")
    auth.init_per_thread_state()
    state = vars(auth)["_thread_local"]
    state.chal = {"realm": "api", "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093", "qop": "auth"}
    state.last_nonce = "another"
    return auth


def headers(**given: str) -> dict[str, Any]:
    return {"headers": {name.replace("_", "-"): value for name, value in given.items()}}


def authorization(value: str, **others: str) -> dict[str, Any]:
    return headers(Authorization=value, **others)


SIGNED: dict[str, dict[str, Any]] = {
    "Standard Webhooks": headers(webhook_id="msg_1", webhook_timestamp=SECONDS, webhook_signature=f"v1,{B64}"),
    "Svix": headers(svix_id="msg_1", svix_timestamp=SECONDS, svix_signature=f"v1,{B64} v1,{B64}"),
    "Slack": headers(X_Slack_Signature=f"v0={HEX}", X_Slack_Request_Timestamp=SECONDS),
    "Stripe": headers(Stripe_Signature=f"t={SECONDS},v1={HEX},v0={HEX}"),
    "Paddle": headers(Paddle_Signature=f"ts={SECONDS};h1={HEX}"),
    "Discord": headers(X_Signature_Ed25519=HEX * 2, X_Signature_Timestamp=SECONDS),
    "HubSpot v3": headers(X_HubSpot_Signature_v3=B64, X_HubSpot_Request_Timestamp=MILLIS),
    "Coinbase": headers(CB_ACCESS_KEY="k", CB_ACCESS_SIGN=HEX, CB_ACCESS_TIMESTAMP=SECONDS),
    "Coinbase CDP": authorization("Bearer " + jwt(sub="k", exp=1767323165, uri="GET api.coinbase.com/v2/accounts")),
    "Kraken": headers(API_Key="k", API_Sign=B64 * 2) | {"data": {"nonce": MILLIS, "pair": "XBTUSD"}},
    "Kraken JSON": headers(API_Key="k", API_Sign=B64) | {"json": {"nonce": int(MILLIS), "pair": "XBTUSD"}},
    "OKX": headers(OK_ACCESS_SIGN=B64, OK_ACCESS_TIMESTAMP=ISO),
    "KuCoin": headers(KC_API_SIGN=B64, KC_API_TIMESTAMP=MILLIS),
    "Bybit": headers(X_BAPI_SIGN=HEX, X_BAPI_TIMESTAMP=MILLIS, X_BAPI_RECV_WINDOW="5000"),
    "Binance query": {"params": {"symbol": "BTC", "timestamp": MILLIS, "signature": HEX}},
    "Binance body": {"data": {"symbol": "BTC", "timestamp": MILLIS, "signature": HEX}},
    "Bitfinex": headers(bfx_nonce=MILLIS, bfx_signature=HEX),
    "Gemini": headers(X_GEMINI_PAYLOAD=packed(request="/v1/x", nonce=7), X_GEMINI_SIGNATURE=HEX),
    "Deribit": authorization(f"deri-hmac-sha256 id=k,ts={MILLIS},nonce=1iqt2wls,sig={HEX}"),
    "Hawk": authorization(f'Hawk id="dh37", ts="{SECONDS}", nonce="j4h3g2", ext="x", mac="{B64}"'),
    "Azure SharedKey": authorization(f"SharedKey account:{B64}", x_ms_date=HTTP, x_ms_version="2025-01-05"),
    "Azure SharedKeyLite": authorization(f"SharedKeyLite account:{B64}", Date=HTTP),
    "Azure Cosmos": authorization("type%3Dmaster%26ver%3D1.0%26sig%3D" + B64.replace("=", "%3D"), x_ms_date=HTTP),
    "Azure HMAC": authorization(f"HMAC-SHA256 SignedHeaders=x-ms-date;host&Signature={B64}", x_ms_date=HTTP),
    "Azure SAS": {"params": {"sv": "2025-01-05", "se": "2026-01-02T03:04:05Z", "sp": "r", "sig": B64}},
    "Akamai": authorization(
        "EG1-HMAC-SHA256 client_token=akab-c;access_token=akab-a;timestamp=20260102T03:04:05+0000;"
        f"nonce=nonce-1;signature={B64}"
    ),
    "Tencent TC3": authorization(
        f"TC3-HMAC-SHA256 Credential=k/2026-01-02/cvm/tc3_request, SignedHeaders=host, Signature={HEX}",
        X_TC_Timestamp=SECONDS,
    ),
    "Tencent COS": authorization(
        f"q-sign-algorithm=sha1&q-ak=k&q-sign-time={SECONDS};1767326645&q-header-list=&q-signature={HEX[:40]}"
    ),
    "Alibaba RPC": {"params": {"Signature": B64, "SignatureNonce": "n1", "SignatureVersion": "1.0", "Timestamp": ISO}},
    "Alibaba OSS": authorization(f"OSS LTAI5t:{B64[:27]}=", Date=HTTP),
    "DingTalk": {"params": {"access_token": "k", "timestamp": MILLIS, "sign": B64}},
    "Alipay": {"data": {"sign": B64 * 4, "sign_type": "RSA2", "timestamp": "2026-01-02 03:04:05"}},
    "Feishu": {"json": {"timestamp": SECONDS, "sign": B64, "msg_type": "text"}},
    "WeChat Pay": authorization(
        f'WECHATPAY2-SHA256-RSA2048 mchid="1",nonce_str="59",signature="{B64 * 3}",timestamp="{SECONDS}",serial_no="7"'
    ),
    "AWS v4": authorization(
        f"AWS4-HMAC-SHA256 Credential=k/20260102/eu/s3/aws4_request, SignedHeaders=host, Signature={HEX}",
        X_Amz_Date=BASIC,
    ),
    "AWS v4 ECDSA": authorization(
        f"AWS4-ECDSA-P256-SHA256 Credential=k/20260102/s3/aws4_request, SignedHeaders=host, Signature={HEX * 2}",
        X_Amz_Date=BASIC,
    ),
    "AWS v4 query": {"params": {"X-Amz-Date": BASIC, "X-Amz-Expires": "900", "X-Amz-Signature": HEX}},
    "AWS v2 query": {"params": {"SignatureVersion": "2", "Signature": B64, "Timestamp": "2026-01-02T03:04:05"}},
    "AWS v2 body": {"data": {"Action": "SendMessage", "Signature": B64, "Timestamp": "2026-01-02T03:04:05"}},
    "AWS S3 v2": authorization(f"AWS AKIA:{B64[:27]}=", Date=HTTP),
    "CloudFront": {"params": {"Expires": SECONDS, "Signature": B64, "Key-Pair-Id": "K2"}},
    "Google v4": {"params": {"X-Goog-Date": BASIC, "X-Goog-Expires": "900", "X-Goog-Signature": HEX * 8}},
    "DPoP": authorization("DPoP opaque-token", DPoP=jwt(jti="1", htm="POST", htu=URL, iat=1767323045)),
    "NTLM": authorization("NTLM TlRMTVNTUAADAAAAGAAYAG4="),
    "Negotiate": authorization("Negotiate YIIJvwYGKwYBBQUCoIIJszCCCa+gJDAi"),
    "SCRAM": authorization("SCRAM-SHA-256 data=biwsbj11c2Vy"),
    "Digest": {"auth": digest()},
    "OAuth 1": authorization(
        f'OAuth oauth_consumer_key="k", oauth_nonce="1", oauth_timestamp="{SECONDS}", '
        'oauth_signature="tnnArxj06cWHq44gCs1OSKk%2FjLY%3D"'
    ),
    "OAuth 1 bytes": {
        "headers": {"Authorization": b'OAuth oauth_nonce="1", oauth_signature="tnnArxj06cWHq44gCs1OSKk%2FjLY%3D"'}
    },
    "OAuth 1 query": {"params": {"oauth_nonce": "1", "oauth_signature": B64, "oauth_timestamp": SECONDS}},
    "RFC 9421": headers(Signature=f"sig1=:{B64}:", Signature_Input=f'sig1=("@method");created={SECONDS};keyid="k"'),
    "RFC 9421 nonce": headers(Signature=f"s=:{B64}:", Signature_Input='s=("@method");keyid="k";nonce="b3k2pp5k7z"'),
    "Cavage draft": headers(Signature=f'keyId="k",headers="date",signature="{B64}"', Date=HTTP),
    "Cavage authorization": authorization(f'Signature keyId="k",headers="date",signature="{B64}"', Date=HTTP),
    "sign and timestamp": {"params": {"app": "1", "sign": MD5, "timestamp": SECONDS}},
    "sign and time of day": {"params": {"sign": MD5.upper(), "time": "2026-01-02 03:04:05"}},
}

UNSIGNED: dict[str, dict[str, Any]] = {
    "Bearer": authorization("Bearer sk_live_4eC39HqLyjWDarjtT1zdp7dc"),
    "Bearer JWT": authorization("Bearer " + jwt(sub="u", iat=1767323045, exp=1767326645, nonce="n")),
    "Bearer beside a timestamp": authorization("Bearer sk_live_4eC39HqLyjWDarjtT1zdp7dc", X_Timestamp=SECONDS),
    "Basic": {"auth": ("user", "a password of the longer kind 1")},
    "Basic beside a date": {"auth": ("user", "a-password-of-the-longer-kind-1"), **headers(Date=HTTP)},
    "API key": headers(X_API_Key=HEX, X_Timestamp=SECONDS),
    "OAuth token": authorization("OAuth y0_AgAAAABHEX4rT1zdp7dcPLLAq"),
    "signature version": headers(X_Request_Signature_Version="2", X_Timestamp=SECONDS),
    "signature method": {"params": {"signature_method": "HMAC-SHA256-of-version-2", "timestamp": SECONDS}},
    "timestamp alone": headers(X_Timestamp=SECONDS),
    "nonce alone": headers(X_Nonce="abc"),
    "AWS date alone": headers(X_Amz_Date=BASIC),
    "Content-MD5": headers(Content_MD5=B64[:23] + "=", Date=HTTP),
    "Digest of the body": headers(Digest=f"SHA-256={B64}", Date=HTTP),
    "Content-Digest": headers(Content_Digest=f"sha-256=:{B64}:", Date=HTTP),
    "content sha256": headers(X_Amz_Content_SHA256=HEX, Date=HTTP),
    "HMAC of the body": headers(X_Hub_Signature_256=f"sha256={HEX}"),
    "HMAC of an event with its time": headers(X_Signature=HEX) | {"json": {"event": "paid", "timestamp": SECONDS}},
    "HMAC in base64": headers(X_Shopify_Hmac_Sha256=B64),
    "HMAC scheme": authorization(f"HMAC {HEX}"),
    "id and MAC": authorization(f"QBox ak:{B64}"),
    "signature of the query": {"params": {"api_key": "k", "api_sig": MD5}},
    "signature over a day": {"params": {"date": "2026-01-02", "signature": HEX}},
    "sign of the zodiac": {"params": {"sign": "aries", "timestamp": SECONDS}},
    "a long sign": {"params": {"sign": "sagittarius-with-a-moon", "timestamp": SECONDS}},
    "MAC address": {"params": {"mac": "00:1A:2B:3C:4D:5E", "time": SECONDS}},
    "design": {"params": {"design": HEX, "timestamp": SECONDS}},
    "signed_url": {"params": {"signed_url": f"https://cdn.example.com/?sig={HEX}", "timestamp": SECONDS}},
    "signatures": {"params": {"signatures": "2", "design": "1"}},
    "cookie": headers(Cookie=f"session.sig={HEX}; timestamp={SECONDS}"),
    "referer": headers(Referer=f"https://a.example.com/?sign={HEX}&timestamp={SECONDS}"),
    "a drawn signature": {"json": {"signature": B64.rstrip("=") * 100, "timestamp": ISO}},
    "text": {"data": f"sign={HEX}&timestamp={SECONDS}", "headers": {"Content-Type": "text/plain"}},
    "broken JSON": headers(X_Signature=HEX) | {"data": '{"nonce": '},
}


def found(kwargs: dict[str, Any]) -> bool:
    request = requests.Session().prepare_request(requests.Request("POST", URL, **kwargs))
    return is_signed(REQUESTS.read_request(request))


@pytest.mark.parametrize("kwargs", SIGNED.values(), ids=SIGNED)
def test_a_signature_beside_a_time_or_a_nonce_is_recognized(kwargs: dict[str, Any]) -> None:
    assert found(kwargs)


@pytest.mark.parametrize("kwargs", UNSIGNED.values(), ids=UNSIGNED)
def test_what_only_sounds_signed_or_stays_valid_is_not(kwargs: dict[str, Any]) -> None:
    assert not found(kwargs)
