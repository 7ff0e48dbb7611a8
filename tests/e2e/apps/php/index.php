<?php
// A counter in a file of the session's kind: what PHP-FPM gives for a request.
header("Content-Type: application/json");
echo json_encode(["app" => getenv("APP_NAME"), "method" => $_SERVER["REQUEST_METHOD"],
    "sum" => array_sum(array_map("intval", explode(",", $_GET["numbers"] ?? "")))]);
