// Begins Swagger UI over this server's own description. No inline script: the page's policy forbids it.
window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#ui",
  validatorUrl: null,
  deepLinking: true,
  persistAuthorization: false,
});
