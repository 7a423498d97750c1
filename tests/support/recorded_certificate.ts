/** The certificate of the PostgreSQL 18.4 that exchanges were recorded with: P-256, signed with SHA-384. */
export const recordedCertificate: Uint8Array = Uint8Array.from(
  atob(
    "MIIBmzCCAUGgAwIBAgIUbkAyMAtdA66KTEwI7bHZzuts6o8wCgYIKoZIzj0EAwMwFDESMBAGA1UEAwwJbG9jYWxo" +
      "b3N0MCAXDTI2MTEyNjIwMTg1MFoYDzIxMjYxMTAyMjAxODUwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcq" +
      "hkjOPQIBBggqhkjOPQMBBwNCAASTQsS78GOIuGmDOvwRJuvYeL45fbMkRfYSpFy7MNTmTEEcUaKyXsRJYPR3mgh8" +
      "YEFoaMYngZ6CFjX1TmMS1pBEo28wbTAdBgNVHQ4EFgQU9uYndQK9ORURnkCksQ2TNKgRjb0wHwYDVR0jBBgwFoAU" +
      "9uYndQK9ORURnkCksQ2TNKgRjb0wDwYDVR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEw" +
      "CgYIKoZIzj0EAwMDSAAwRQIgfTWmLqctAhVWVvIEAvRjKTZdYGlvRNvZa7ZJ264fzG4CIQDM1oMlrTTGZMFi5xEg" +
      "knA121tHgImyb58RXi2wyYQY6g==",
  ),
  (character) => character.charCodeAt(0),
);
