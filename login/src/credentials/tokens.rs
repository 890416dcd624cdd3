//! The tokens of a ChatGPT sign-in.

use crate::claims::{ClaimsError, IdClaims, access_expiry};
use crate::opaque::Unknown;
use codex_secret::Secret;
use jiff::Timestamp;
use rand::RngCore;

/// Who issued the tokens, and to which client; where to refresh them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The issuer's address, as it was used.
    pub issuer: String,
    /// The client's id.
    pub client_id: String,
}

/// The tokens of a ChatGPT sign-in. The id token is known to be readable.
#[derive(Debug, Clone)]
pub struct Tokens {
    pub(super) id_token: Secret,
    pub(super) claims: IdClaims,
    pub(super) access_token: Secret,
    pub(super) refresh_token: Secret,
    pub(super) provenance: Option<Provenance>,
    /// Members of `oauth_provenance` that this version does not know; they go with it.
    pub(super) provenance_unknown: Unknown,
    pub(super) login_owner_id: Option<String>,
    pub(super) account_id: Option<String>,
    pub(super) unknown: Unknown,
}

impl Tokens {
    /// Tokens as an issuer gave them; the account id is copied from the id token.
    pub fn new(id_token: Secret, access_token: Secret, refresh_token: Secret) -> Result<Self, ClaimsError> {
        let claims = IdClaims::read(id_token.expose())?;
        let account_id = claims.account_id.clone();
        Ok(Self {
            id_token,
            claims,
            access_token,
            refresh_token,
            provenance: None,
            provenance_unknown: Unknown::default(),
            login_owner_id: None,
            account_id,
            unknown: Unknown::default(),
        })
    }

    /// The same tokens with their origin.
    pub fn with_provenance(self, provenance: Provenance) -> Self {
        Self { provenance: Some(provenance), ..self }
    }

    /// The same tokens with the mark of one sign-in; see [`new_login_owner_id`].
    pub fn with_login_owner_id(self, id: String) -> Self {
        Self { login_owner_id: Some(id), ..self }
    }

    /// The id token, a JWT.
    pub fn id_token(&self) -> &Secret {
        &self.id_token
    }

    /// What the id token says.
    pub fn claims(&self) -> &IdClaims {
        &self.claims
    }

    /// The access token: the bearer of requests. May be opaque, may be empty.
    pub fn access_token(&self) -> &Secret {
        &self.access_token
    }

    /// When the access token ends, if it says so.
    pub fn access_expiry(&self) -> Option<Timestamp> {
        access_expiry(self.access_token.expose())
    }

    /// The refresh token; may be empty.
    pub fn refresh_token(&self) -> &Secret {
        &self.refresh_token
    }

    /// `oauth_provenance`.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_ref()
    }

    /// `login_owner_id`.
    pub fn login_owner_id(&self) -> Option<&str> {
        self.login_owner_id.as_deref()
    }

    /// `account_id`: the account that requests name, whatever the id token says (login.md 4).
    pub fn account_id(&self) -> Option<&str> {
        self.account_id.as_deref()
    }

    pub(crate) fn same_secrets(&self, other: &Self) -> bool {
        self.account_id == other.account_id
            && self.access_token == other.access_token
            && self.refresh_token == other.refresh_token
            && self.id_token == other.id_token
    }

    /// The same sign-in with what a refresh brought: what is absent stays, the account never changes (login.md 7.3).
    pub(crate) fn renewed(
        &self,
        id_token: Option<Secret>,
        access_token: Option<Secret>,
        refresh_token: Option<Secret>,
        keep_provenance: bool,
    ) -> Result<Self, ClaimsError> {
        let mut renewed = self.clone();
        if let Some(id_token) = id_token {
            renewed.claims = IdClaims::read(id_token.expose())?;
            renewed.id_token = id_token;
        }
        if let Some(access_token) = access_token {
            renewed.access_token = access_token;
        }
        if let Some(refresh_token) = refresh_token {
            renewed.refresh_token = refresh_token;
        }
        if !keep_provenance {
            (renewed.provenance, renewed.provenance_unknown) = (None, Unknown::default());
        }
        Ok(renewed)
    }
}

/// A fresh mark for one sign-in: 32 random bytes, base64url without padding, 43 characters.
pub fn new_login_owner_id() -> String {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(bytes)
}
