//! Key pairs made at the start of a test, and tokens signed with them. The signing is done with
//! the primitives, not with a JWT library, so that a token can be wrong in any way.

use aws_lc_rs::{
    encoding::AsDer,
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
    },
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use yatagarasu::{
    model::Secret,
    policy::auth::spec::{KeyMaterial, KeySpec},
};

/// Every algorithm that is accepted.
pub(crate) const ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

/// One private key of each kind.
pub(crate) struct KeySet {
    secret: Vec<u8>,
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl KeySet {
    /// New keys; the secret is 64 letters that begin with `name`.
    pub(crate) fn generate(name: &str) -> Self {
        Self {
            secret: format!("{name:-<64}").into_bytes(),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    /// What an operator would configure to verify tokens of that algorithm.
    pub(crate) fn spec(&self, algorithm: &str, id: Option<&str>) -> KeySpec {
        KeySpec {
            path: "jwt".to_owned(),
            id: id.map(str::to_owned),
            algorithm: algorithm.to_owned(),
            material: self.material(algorithm),
        }
    }

    pub(crate) fn material(&self, algorithm: &str) -> KeyMaterial {
        let der = match &algorithm[..2] {
            "HS" => return KeyMaterial::Secret(Secret::new(self.secret.clone())),
            "RS" | "PS" => self.rsa.public_key().as_der().unwrap(),
            "ES" if algorithm == "ES256" => self.p256.public_key().as_der().unwrap(),
            "ES" => self.p384.public_key().as_der().unwrap(),
            _ => self.ed25519.public_key().as_der().unwrap(),
        };
        let body = STANDARD.encode(der.as_ref());
        let lines: Vec<_> = body.as_bytes().chunks(64).map(<[u8]>::to_ascii_string).collect();
        let pem =
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
        KeyMaterial::PublicPem(pem.into_bytes())
    }

    /// The public PEM of the algorithm's key.
    pub(crate) fn pem(&self, algorithm: &str) -> Vec<u8> {
        match self.material(algorithm) {
            KeyMaterial::PublicPem(pem) => pem,
            KeyMaterial::Secret(_) => panic!("{algorithm} has no public key"),
        }
    }

    /// A signature as JWA wants it.
    pub(crate) fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let rsa = |encoding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            self.rsa.sign(encoding, &random, message, &mut signature).unwrap();
            signature
        };
        match algorithm {
            "HS256" => mac(hmac::HMAC_SHA256, &self.secret, message),
            "HS384" => mac(hmac::HMAC_SHA384, &self.secret, message),
            "HS512" => mac(hmac::HMAC_SHA512, &self.secret, message),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "RS384" => rsa(&RSA_PKCS1_SHA384),
            "RS512" => rsa(&RSA_PKCS1_SHA512),
            "PS256" => rsa(&RSA_PSS_SHA256),
            "PS384" => rsa(&RSA_PSS_SHA384),
            "PS512" => rsa(&RSA_PSS_SHA512),
            "ES256" => self.p256.sign(&random, message).unwrap().as_ref().to_vec(),
            "ES384" => self.p384.sign(&random, message).unwrap().as_ref().to_vec(),
            "EdDSA" => self.ed25519.sign(message).as_ref().to_vec(),
            other => panic!("{other} signs nothing"),
        }
    }

    /// The public point of the P-256 key, uncompressed.
    pub(crate) fn p256_point(&self) -> Vec<u8> {
        self.p256.public_key().as_ref().to_vec()
    }

    /// A token with the usual header.
    pub(crate) fn token(&self, algorithm: &str, claims: &str) -> String {
        self.token_with(algorithm, &format!(r#"{{"alg":"{algorithm}","typ":"JWT"}}"#), claims)
    }

    /// A token with any header, signed with that algorithm whatever the header says.
    pub(crate) fn token_with(&self, algorithm: &str, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(claims));
        let signature = self.sign(algorithm, signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }
}

/// An HMAC with any bytes as the key.
pub(crate) fn mac(algorithm: hmac::Algorithm, secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, secret), message).as_ref().to_vec()
}

/// Unpadded base64url.
pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

trait AsciiString {
    fn to_ascii_string(&self) -> String;
}

impl AsciiString for [u8] {
    fn to_ascii_string(&self) -> String {
        String::from_utf8_lossy(self).into_owned()
    }
}
